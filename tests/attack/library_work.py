"""Jobs of the library in one process, over folders in which some files are damaged: what a service does for weeks."""

import random
import tempfile
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch
from attack.media_files import SECONDS, clip
from attack.mutations import damaged
from attack.outcomes import Attack
from drawn_clips import RECIPES

from vitaclip_hf import VideoDecodingError
from vitaclip_hf.data.annotations import read_annotations
from vitaclip_hf.data.clip_dataset import ClipCollator, ClipDataset
from vitaclip_hf.library.embedding import embed_videos
from vitaclip_hf.library.store import VideoStore
from vitaclip_hf.library.timeline import VideoTimeline
from vitaclip_hf.model.video_inputs import VideoReader


FILES = 8
LABELS = ["a taxi", "juggling"]


class LibraryWork:
    """
    The jobs, with their model loaded once.

    Args:
        checkpoint ([`Checkpoint`]): a tiny model.
    """

    def __init__(self, checkpoint: Any):
        self.checkpoint = checkpoint
        self.zero_shot = checkpoint.classifier()
        self.timeline = VideoTimeline(checkpoint.encoder(), LABELS, window=0.6, stride=0.3)

    def attacks(self, seeds: Iterable[int]) -> Iterator[Attack]:
        """All jobs over one folder for each seed: eight clips, of which about half are damaged."""
        for seed in seeds:
            draw = random.Random(f"library-{seed}")
            with tempfile.TemporaryDirectory() as scratch:
                folder = Path(scratch, "videos")
                for number in range(FILES):
                    recipe = draw.choice(tuple(RECIPES))
                    data = clip(recipe)
                    if draw.random() < 0.5:
                        data, _ = damaged(data, f"{seed}-{number}")
                    place = folder / LABELS[number % 2] / f"{number}-{recipe}"
                    place.parent.mkdir(parents=True, exist_ok=True)
                    place.write_bytes(data)
                files = sorted(str(file) for file in folder.rglob("*.*") if file.is_file())
                yield Attack(f"library-pipeline-{seed}", partial(self._pipeline, files))
                yield Attack(f"library-data set-{seed}", partial(self._data_set, folder, seed % 3))
                yield Attack(f"library-index-{seed}", partial(self._index, folder, Path(scratch, "index")))
                for file in files:
                    name = f"library-timeline-{seed}-{Path(file).name}"
                    yield Attack(name, partial(self._timeline, file), (VideoDecodingError,))

    def _pipeline(self, files: list[str]) -> str:
        answers = self.zero_shot(files, candidate_labels=LABELS, on_error="skip", batch_size=2)
        if len(answers) != len(files):
            raise AssertionError(f"{len(answers)} answers for {len(files)} files")
        return "a list"

    def _data_set(self, folder: Path, workers: int) -> str:
        table = read_annotations(folder)
        reader = VideoReader(self.checkpoint.processor.video_processor, max_seconds=SECONDS)
        videos = ClipDataset(table, reader, on_error="skip")
        loader = torch.utils.data.DataLoader(videos, batch_size=2, num_workers=workers, collate_fn=ClipCollator())
        seen = sum(len(batch["labels"]) for batch in loader)
        if seen != len(table):
            raise AssertionError(f"{seen} clips of {len(table)} videos")
        return "an epoch"

    def _index(self, folder: Path, place: Path) -> str:
        store = VideoStore(place)
        if embed_videos(folder, place, self.checkpoint, window=0.6)["windows"]:
            store.search(store.embed_text(self.checkpoint, LABELS[0]), top_k=3)
        again = embed_videos(folder, place, self.checkpoint)
        if again["new"] or again["windows"]:
            raise AssertionError(f"a second run reads again: {again}")
        return "an index"

    def _timeline(self, file: str) -> str:
        list(self.timeline.segments(self.timeline.scores(file, thumbnails=True)))
        return "a timeline"
