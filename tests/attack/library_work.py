"""Jobs of the library in one process, over folders in which some files are damaged: what a service does for weeks."""

import random
import tempfile
from pathlib import Path
from typing import Any

import torch
from attack.media_files import SECONDS, clip
from attack.mutations import damaged
from attack.outcomes import Outcomes
from drawn_clips import RECIPES

from vitaclip_hf import VideoDecodingError
from vitaclip_hf.data.annotations import read_annotations
from vitaclip_hf.data.clip_dataset import ClipCollator, ClipDataset
from vitaclip_hf.library.embedding import embed_videos
from vitaclip_hf.library.store import VideoStore
from vitaclip_hf.library.timeline import VideoTimeline
from vitaclip_hf.model.video_reader import VideoReader


FILES = 8
LABELS = ["a red star", "juggling"]


class LibraryWork:
    """
    The jobs, with their model loaded once.

    Args:
        checkpoint ([`Checkpoint`]): a tiny model.
    """

    def __init__(self, checkpoint: Any):
        from transformers import pipeline

        self.checkpoint = checkpoint
        processor = checkpoint.processor
        self.zero_shot = pipeline(
            "zero-shot-video-classification",
            model=checkpoint.model,
            tokenizer=processor.tokenizer,
            video_processor=processor.video_processor,
        )
        self.timeline = VideoTimeline(checkpoint.encoder(), LABELS, window=0.6, stride=0.3)

    def attack(self, seed: int) -> Outcomes:
        """All jobs over one folder of eight clips, of which about half are damaged."""
        outcomes = Outcomes("library work")
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
            outcomes.attack(f"library-pipeline-{seed}", lambda: self._pipeline(files), ())
            outcomes.attack(f"library-data set-{seed}", lambda: self._data_set(folder, seed % 3), ())
            outcomes.attack(f"library-index-{seed}", lambda: self._index(folder, Path(scratch, "index")), ())
            for file in files:
                name = f"library-timeline-{seed}-{Path(file).name}"
                outcomes.attack(name, lambda file=file: self._timeline(file), (VideoDecodingError,))
        return outcomes

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
