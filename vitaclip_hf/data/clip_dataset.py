"""Clip data sets for training and evaluation, their sampler and their collator.

Everything random in a sample depends on (seed, epoch, index) alone. So the clips are the same for any number of workers
or ranks, and after a resumed run.
"""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import torch
from torch.utils.data import Dataset, Sampler

from ..model.video_inputs import VideoReader
from .clip_reading import ClipReading
from .seeds import derive_seed
from .table import AnnotationTable
from .text_files import AnnotationError
from .video_sources import HubVideos, TableVideos


class SampleKey(NamedTuple):
    """A key of [`EpochSampler`]. With the data set's seed, it determines a sample."""

    epoch: int
    index: int  # type: ignore[assignment]  # tuple has a method of that name


class ClipDataset(ClipReading, Dataset):
    """
    Clips of labelled videos.

    A sample is a dictionary:

    - `pixel_values_videos`: `torch.Tensor` of shape `(num_frames, 3, height, width)` in training, and of shape
      `(num_views, num_frames, 3, height, width)` in evaluation,
    - `labels` (`int`): the class; -100 if there is none,
    - `index` (`int`): number of the video,
    - `seed` (`int`): seed of the sample's draws, for [`ClipCollator`],
    - `failures` (`list[tuple[str, str]]`): path and reason of each file that could not be read; only if there are any.

    A sample's frames are decoded when it is asked for, and only those that it needs.

    With `on_error="skip"`, a file that cannot be read does not stop the run. In training another video takes its place,
    drawn from (seed, epoch, index, attempt), at most `max_retries` times. In evaluation the sample is zeros with the
    label -100.

    Args:
        table ([`AnnotationTable`] or [`HubVideos`]): the videos.
        reader ([`VideoReader`]): reads the videos; resizes, crops and normalises if there is no augmentation.
        augmentation, seed, on_error, max_retries: see [`ClipReading`].

    Raises:
        AnnotationError: there are no videos, or unlabelled ones in training.
        ValueError: an unknown choice.
        TypeError: another kind of `table`.

    Example:

    ```python
    >>> from vitaclip_hf import ClipDataset, VideoReader, VitaClipVideoProcessor
    >>> from vitaclip_hf.data.annotations import read_annotations

    >>> reader = VideoReader(VitaClipVideoProcessor(num_frames=4), num_views=2, max_seconds=10)
    >>> ClipDataset(read_annotations("my_videos"), reader)[0]["pixel_values_videos"].shape  # doctest: +SKIP
    torch.Size([2, 4, 3, 224, 224])

    ```
    """

    def __init__(self, table: AnnotationTable | TableVideos | HubVideos, reader: VideoReader, **options: Any):
        super().__init__(reader, **options)
        self.source = TableVideos(table) if isinstance(table, AnnotationTable) else table
        if not hasattr(self.source, "label"):
            kind = f"{type(table).__module__.partition('.')[0]}.{type(table).__name__}"
            raise TypeError(f"`table` must be an AnnotationTable or HubVideos(a Dataset of `datasets`), got {kind}.")
        self.epoch = 0  # for `EpochSampler`; samples use the epoch of their key
        if len(self.source) == 0:
            raise AnnotationError("`table` has no videos.")
        if self.training:
            unlabelled = [index for index in range(len(self.source)) if self.source.label(index) is None]
            if unlabelled:
                raise AnnotationError(
                    f"{len(unlabelled)} of {len(self.source)} videos have no label, such as "
                    f"{self.source.name(unlabelled[0])}; leave them out of the training."
                )

    def __len__(self) -> int:
        return len(self.source)

    def set_epoch(self, epoch: int) -> None:
        """Called by accelerate, for [`EpochSampler`]. Workers do not need it, since keys carry their epoch."""
        self.epoch = epoch

    def __getitem__(self, key: int | SampleKey) -> dict[str, Any]:
        epoch, index = key if isinstance(key, tuple) else (0, key)
        if not 0 <= index < len(self):
            raise IndexError(f"There is no video {index}; the numbers are 0 … {len(self) - 1}.")
        failures: list[tuple[str, str]] = []
        while True:
            draw = (self.seed, epoch, index, len(failures)) if failures else (self.seed, epoch, index)
            chosen = derive_seed("replacement", *draw) % len(self) if failures else index
            open_video = partial(self.source.open, chosen, self.reader.options)
            name, label = self.source.name(chosen), self.source.label(chosen)
            sample = self.sample(open_video, name, label, chosen, derive_seed(*draw), failures)
            if sample is not None:
                return sample


class EpochSampler(Sampler[SampleKey]):
    """
    Yields the keys of all samples once, in an order drawn from (seed, epoch). Global random states stay as they are.

    The epoch is the data set's, because accelerate sets only that when it resumes several ranks within an epoch.

    Args:
        dataset ([`ClipDataset`]): the data set.
        seed (`int`, defaults to 0): seed of the order.
    """

    def __init__(self, dataset: ClipDataset, seed: int = 0):
        self.dataset = dataset
        self.seed = seed

    def set_epoch(self, epoch: int) -> None:
        self.dataset.set_epoch(epoch)

    def __len__(self) -> int:
        return len(self.dataset)

    def __iter__(self) -> Iterator[SampleKey]:
        epoch = self.dataset.epoch
        generator = torch.Generator().manual_seed(derive_seed("order", self.seed, epoch))
        order = torch.randperm(len(self), generator=generator).tolist()
        return iter([SampleKey(epoch, index) for index in order])


class ClipCollator:
    """
    Makes a batch of the samples of a [`ClipDataset`] or [`ClipStream`].

    A batch is a dictionary:

    - `pixel_values_videos`: `torch.Tensor` of shape `(batch_size, num_frames, 3, height, width)`; in evaluation
      `(batch_size, num_views, num_frames, 3, height, width)`,
    - `labels`: `torch.LongTensor` of shape `(batch_size,)`; with a mixer, `torch.Tensor` of shape
      `(batch_size, num_classes)`,
    - `index`: `torch.LongTensor` of shape `(batch_size,)`, numbers of the videos,
    - `failures`: `list[tuple[str, str]]`, path and reason of each file that could not be read.

    `index` and `failures` are not model inputs; take them out of the batch before you call the model.

    Args:
        mixer ([`ClipMixer`], *optional*): mixes training batches only; its draws come from the seeds
            of the batch's samples.
    """

    def __init__(self, mixer: Callable | None = None):
        self.mixer = mixer

    def __call__(self, samples: list[dict[str, Any]]) -> dict[str, Any]:
        pixels = torch.stack([sample["pixel_values_videos"] for sample in samples])
        labels = torch.tensor([sample["labels"] for sample in samples], dtype=torch.long)
        if self.mixer is not None and pixels.ndim == 5:
            seed = derive_seed("mix", *(sample["seed"] for sample in samples))
            pixels, labels = self.mixer(pixels, labels, torch.Generator().manual_seed(seed))
        return {
            "pixel_values_videos": pixels,
            "labels": labels,
            "index": torch.tensor([sample["index"] for sample in samples], dtype=torch.long),
            "failures": [failure for sample in samples for failure in sample.get("failures", ())],
        }
