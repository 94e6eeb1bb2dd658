"""Clips of a streamed Hugging Face data set, shuffled by a buffer and split over ranks and workers."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch.utils.data import IterableDataset, get_worker_info

from ..model.decoding import Video, open_video
from ..model.video_inputs import VideoReader
from .clip_reading import NO_LABEL, ClipReading
from .seeds import derive_seed
from .text_files import AnnotationError
from .video_sources import HubColumns, encoded_video


class Place(NamedTuple):
    """A place in a batch, and the failures of the records that were tried for it."""

    epoch: int
    position: int
    failures: list[tuple[str, str]]


class ClipStream(ClipReading, IterableDataset):
    """
    Clips of a `datasets.IterableDataset`, in the form of [`ClipDataset`]'s samples; `index` is the record's number.

    In training, the stream of an epoch is shuffled with a buffer by (seed, epoch). Records are numbered in that order,
    and a record's draws come from (seed, epoch, number).

    Every process reads all records and decodes only its own. Of R ranks, each takes every R-th record and gives its
    batches to its workers in turn. So the batches of a rank are the same for any number of workers. Each process reads
    all bytes, which suits local files and a moderate number of processes.

    In training the stream does not end: epoch follows epoch, so that no rank ends before the others. Give the Trainer
    `max_steps`. In evaluation it ends after one epoch. A rank with one record less than others ends with a sample of
    zeros, label -100 and index -1, so that all ranks have the same number.

    This class does the splitting: build the loader with [`ClipStream.loader`] and do not give it to
    `accelerator.prepare`.

    With `on_error="skip"`, a record that fails does not stop the run. In training the next good record takes its place,
    at most `max_retries` later, and also comes at its own place. In evaluation the sample is zeros with the label -100.

    Args:
        dataset (`datasets.IterableDataset`): the streamed data set.
        reader ([`VideoReader`]): reads the videos; resizes, crops and normalises if there is no augmentation.
        batch_size (`int`): batch size of one process, for `loader`.
        video_column (`str`, *optional*): see [`HubVideos`].
        label_column (`str`, defaults to `"label"`): see [`HubVideos`].
        class_names (`Sequence[str]`, *optional*): names in the order of the labels; needed if the labels are not a
            `ClassLabel`.
        buffer_size (`int`, defaults to 256): number of records that shuffling chooses from; 0 keeps the order of the
            files. Their bytes are kept in memory.
        rank (`int`, defaults to 0): number of this process.
        world_size (`int`, defaults to 1): number of processes.
        skip_batches (`int`, defaults to 0): number of batches of this rank to leave out undecoded, to go on with a
            training.
        augmentation, seed, on_error, max_retries: see [`ClipReading`].

    Raises:
        AnnotationError: the video column or the class names cannot be found out.
        ValueError: an unknown choice, or numbers that do not fit each other.
    """

    def __init__(
        self,
        dataset,
        reader: VideoReader,
        *,
        batch_size: int,
        video_column: str | None = None,
        label_column: str = "label",
        class_names: Sequence[str] | None = None,
        buffer_size: int = 256,
        rank: int = 0,
        world_size: int = 1,
        skip_batches: int = 0,
        **options: Any,
    ):
        super().__init__(reader, **options)
        if batch_size < 1 or not 0 <= rank < world_size or skip_batches < 0:
            raise ValueError(
                f"Unusable batch_size={batch_size}, rank={rank} of {world_size}, or skip_batches={skip_batches}."
            )
        self.columns = HubColumns(dataset.features, video_column, label_column, class_names)
        self.class_names = self.columns.class_names
        self.dataset = self.columns.undecoded(dataset)
        self.batch_size, self.buffer_size, self.skip_batches = batch_size, buffer_size, skip_batches
        self.rank, self.world_size = rank, world_size

    def loader(self, collator: Callable, num_workers: int = 0, device: torch.device | None = None, **kwargs):
        """
        The loader of this stream.

        Args:
            collator (`Callable`): makes a batch of samples, see [`ClipCollator`].
            num_workers (`int`, defaults to 0): number of worker processes.
            device (`torch.device`, *optional*): where batches are put.
            kwargs (*optional*): further arguments of `torch.utils.data.DataLoader`.

        Returns:
            `accelerate.data_loader.DataLoaderShard`
        """
        from accelerate.data_loader import DataLoaderShard

        return DataLoaderShard(
            self, device=device, batch_size=self.batch_size, collate_fn=collator, num_workers=num_workers, **kwargs
        )

    def __iter__(self) -> Iterator[dict[str, Any]]:
        worker = get_worker_info()
        number, count = (worker.id, worker.num_workers) if worker else (0, 1)
        waiting: list[Place] = []  # more than one after a failure: the next good record takes that place too
        for epoch, position, record in self._numbered_records():
            batch = position // self.world_size // self.batch_size - self.skip_batches
            if position % self.world_size == self.rank and batch >= 0 and batch % count == number:
                waiting.append(Place(epoch, position, []))
            while waiting and (sample := self._sample(waiting[0], position, record)) is not None:
                yield sample
                waiting.pop(0)

    def _numbered_records(self) -> Iterator[tuple[int, int, dict | None]]:
        """(epoch, number, record) of all ranks. Numbers go on over the epochs, so that ranks always take turns."""
        position, epoch = 0, 0
        while True:
            start = position
            # In a DataLoader's worker, `iter(dataset)` would leave out the shards of other workers.
            for batch in self._shuffled(epoch).iter(batch_size=1):
                yield epoch, position, {column: values[0] for column, values in batch.items()}
                position += 1
            if position == start:
                raise AnnotationError("The stream holds no videos; check the data set and its split.")
            if not self.training:
                break
            epoch += 1
        while position % self.world_size:
            yield epoch, position, None
            position += 1

    def _shuffled(self, epoch: int):
        if not (self.training and self.buffer_size):
            return self.dataset
        return self.dataset.shuffle(seed=derive_seed("stream", self.seed, epoch), buffer_size=self.buffer_size)

    def _sample(self, place: Place, position: int, record: dict | None) -> dict[str, Any] | None:
        """A sample for a place. `None` if the record fails and training has to try the next one."""
        seed = derive_seed(self.seed, place.epoch, place.position)
        if record is None:
            return {"pixel_values_videos": self.blank(), "labels": NO_LABEL, "index": -1, "seed": seed}
        video = record[self.columns.video]
        name = (video.get("path") if isinstance(video, dict) else None) or f"record {position}"
        label = self.columns.label_of(record[self.columns.label], name)
        if label is None and self.training:
            raise AnnotationError(f"{name} has no label; leave it out of the training.")

        def opened() -> Video:
            return open_video(encoded_video(video, name, self.reader.options), self.reader.options)

        return self.sample(opened, name, label, position, seed, place.failures)
