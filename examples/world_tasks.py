"""The demo's world (`examples/world`) as four tasks of mteb, to try its harness without a download.

A hundred H.264 videos, one of each scene of the demo, are drawn from a seed and written to a folder. The linear probe
has eighty more, of trained scenes.
"""

import sys
from pathlib import Path
from typing import Any

import torch
from datasets import ClassLabel, Dataset, DatasetDict, Features, Value, Video
from mteb.abstasks import AbsTaskClassification, AbsTaskClustering, AbsTaskRetrieval, AbsTaskZeroShotClassification
from mteb.abstasks.task_metadata import TaskMetadata

from vitaclip_hf.data.video_writing import write_video


sys.path.append(str(Path(__file__).parent / "world"))
from world import TRAINED_MOTIONS, Scene, World, draw_videos  # noqa: E402


WORLD = World()
SEED = 7
TEMPLATE = "a video of a {}"


def task_metadata(name: str, type: Any, category: Any, modalities: list[Any], main_score: str) -> TaskMetadata:
    return TaskMetadata(
        name=name,
        description="Generated videos of drawn things that move in ten ways (examples/world).",
        dataset={"path": "vitaclip_hf/world", "revision": f"seed-{SEED}"},
        type=type,
        category=category,
        modalities=modalities,
        eval_splits=["test"],
        eval_langs=["eng-Latn"],
        main_score=main_score,
        license="apache-2.0",
        annotations_creators="algorithmic",
        sample_creation="rendered",
    )


def video_files(folder: Path, scenes: list[Scene], seed: int) -> list[str]:
    """The video file of each scene. Missing files are drawn and written."""
    files = [folder / f"{seed}_{scene.label.replace(' ', '_')}.mp4" for scene in scenes]
    if not all(file.is_file() for file in files):
        folder.mkdir(parents=True, exist_ok=True)
        generator = torch.Generator().manual_seed(seed)
        for start in range(0, len(scenes), 25):  # not all in memory at once
            videos = draw_videos(WORLD, scenes[start : start + 25], generator, size=96)
            for file, frames in zip(files[start:], videos, strict=False):
                write_video(file, frames.numpy())
    return list(map(str, files))


def labelled_videos(folder: Path, scenes: list[Scene], seed: int, class_names: list[str], labels: list[str]) -> Dataset:
    columns = {"video": video_files(folder, scenes, seed), "label": list(map(class_names.index, labels))}
    return Dataset.from_dict(columns, Features({"video": Video(), "label": ClassLabel(names=class_names)}))


class GeneratedVideos:
    """The demo's scenes and the folder of their videos, for all four tasks."""

    def __init__(self, folder: Path, **kwargs: Any):
        super().__init__(**kwargs)
        self.folder = Path(folder)
        self.scenes = WORLD.scenes("demo")

    def motions(self, scenes: list[Scene], seed: int) -> Dataset:
        """Videos with the motion as label."""
        return labelled_videos(self.folder, scenes, seed, list(TRAINED_MOTIONS), [scene.motion for scene in scenes])


class WorldZeroShot(GeneratedVideos, AbsTaskZeroShotClassification):
    """Which of the 100 scenes a video shows."""

    metadata = task_metadata("WorldZeroShot", "VideoZeroshotClassification", "v2t", ["video", "text"], "accuracy")
    input_column_name = "video"

    def load_data(self, num_proc: int | None = None, **kwargs: Any) -> None:
        names = [scene.label for scene in self.scenes]
        self.dataset = DatasetDict(test=labelled_videos(self.folder, self.scenes, SEED, names, names))
        self.data_loaded = True

    def get_candidate_labels(self) -> list[str]:
        return [TEMPLATE.format(scene.label) for scene in self.scenes]


class WorldClassification(GeneratedVideos, AbsTaskClassification):
    """A linear probe for the motion: learned on trained things, tested on the demo's."""

    metadata = task_metadata("WorldClassification", "VideoClassification", "v2c", ["video"], "accuracy")
    input_column_name = "video"
    samples_per_label = 6
    n_experiments = 1

    def load_data(self, num_proc: int | None = None, **kwargs: Any) -> None:
        trained = [Scene(thing, motion) for thing in WORLD.trained[:8] for motion in TRAINED_MOTIONS]
        self.dataset = DatasetDict(train=self.motions(trained, SEED + 1), test=self.motions(self.scenes, SEED))
        self.data_loaded = True


class WorldClustering(GeneratedVideos, AbsTaskClustering):
    """Whether videos of one motion are close to each other."""

    metadata = task_metadata("WorldClustering", "VideoClustering", "v2c", ["video"], "v_measure")
    input_column_name = "video"
    label_column_name = "label"
    max_fraction_of_documents_to_embed = None
    max_documents_per_cluster = 100

    def load_data(self, num_proc: int | None = None, **kwargs: Any) -> None:
        self.dataset = DatasetDict(test=self.motions(self.scenes, SEED))
        self.data_loaded = True


class WorldTextToVideo(GeneratedVideos, AbsTaskRetrieval):
    """Find the one video of 100 that a sentence describes."""

    metadata = task_metadata("WorldTextToVideo", "Any2AnyRetrieval", "t2v", ["text", "video"], "ndcg_at_10")

    def load_data(self, num_proc: int | None = None, **kwargs: Any) -> None:
        ids = [str(number) for number in range(len(self.scenes))]
        texts = [TEMPLATE.format(scene.label) for scene in self.scenes]
        files = video_files(self.folder, self.scenes, SEED)
        split = {
            "queries": Dataset.from_dict({"id": ids, "text": texts}),
            "corpus": Dataset.from_dict(
                {"id": ids, "video": files}, Features({"id": Value("string"), "video": Video()})
            ),
            "relevant_docs": {number: {number: 1} for number in ids},
            "top_ranked": None,
        }
        self.dataset = {"default": {"test": split}}
        self.data_loaded = True


TASKS = {task.metadata.name: task for task in (WorldZeroShot, WorldClassification, WorldClustering, WorldTextToVideo)}
