"""Times the reading of videos for an evaluation beside the released code's way: `benchmark.py loader`.

The released loader is written anew from what it does: every frame is decoded and converted, all of them become float,
are normalised and resized, and the views are cut out of the result. Here only the frames of the views are converted and
resized. Both run in one process with one thread, as a worker of a data loader does. The videos are drawn: H.264,
340 x 256, 30 frames a second.
"""

import argparse
import tempfile
from pathlib import Path

import av
import numpy as np
import torch
from benchmark_measurement import comparison, comparison_to_markdown, load_average, positive, time_rounds
from benchmark_pipeline import write_videos
from torch import nn

from vitaclip_hf import VitaClipVideoProcessor
from vitaclip_hf.data.clip_dataset import ClipDataset
from vitaclip_hf.data.table import AnnotationTable, VideoSample
from vitaclip_hf.model.video_inputs import VideoReader


SIZE, FRAMES, STRIDE = 224, 8, 16
# Mean difference, in units of normalised pixels, of the two ways with the same interpolation: ours rounds to whole
# numbers after resizing.
TOLERANCE = 0.02


def read_as_released(path: str, views: int, mean: torch.Tensor, std: torch.Tensor) -> torch.Tensor:
    """All views of a video, `(views, num_frames, 3, 224, 224)`, by way of every frame of it."""
    with av.open(path) as container:
        by_time = {frame.pts: frame for frame in container.decode(video=0)}
    frames = np.stack([by_time[time].to_rgb().to_ndarray() for time in sorted(by_time)])
    pixels = (torch.as_tensor(frames).float() / 255 - mean) / std
    pixels = pixels.permute(3, 0, 1, 2)  # channels, time, height, width
    height, width = pixels.shape[-2:]
    short = min(height, width)
    size = (height * SIZE // short, width * SIZE // short)
    pixels = nn.functional.interpolate(pixels, size=size, mode="bilinear", align_corners=False)
    top, left = (size[0] - SIZE) // 2, (size[1] - SIZE) // 2
    pixels = pixels[:, :, top : top + SIZE, left : left + SIZE]
    span = (FRAMES - 1) * STRIDE + 1
    missing = span - pixels.shape[1]
    if missing > 0:
        pixels = torch.cat([pixels, pixels[:, -1:].repeat(1, missing, 1, 1)], dim=1)
    slide = pixels.shape[1] - span
    starts = [slide // 2] if views == 1 else [round(slide / (views - 1) * view) for view in range(views)]
    return torch.stack([pixels[:, start : start + span : STRIDE] for start in starts]).transpose(1, 2)


def dataset(files: list[str], views: int, **processing) -> ClipDataset:
    """This package's evaluation data set of the files."""
    table = AnnotationTable(tuple(VideoSample(path, 0, "test", path) for path in files), ("any",), "benchmark")
    processor = VitaClipVideoProcessor(num_frames=FRAMES, **processing)
    return ClipDataset(table, VideoReader(processor, sampling="dense", frame_stride=STRIDE, num_views=views))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(run=run, to_markdown=comparison_to_markdown)
    parser.add_argument("--videos", type=positive, default=4, help="(default: %(default)s)")
    parser.add_argument("--seconds", type=positive, default=10, help="length of a video (default: %(default)s)")


def run(arguments: argparse.Namespace) -> dict:
    load = load_average()
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return _run(arguments, load)
    finally:
        torch.set_num_threads(threads)


def _run(arguments: argparse.Namespace, load: float | None) -> dict:
    processor = VitaClipVideoProcessor()
    mean, std = torch.tensor(processor.image_mean), torch.tensor(processor.image_std)
    settings = {name: getattr(arguments, name) for name in ("videos", "seconds", "rounds")}
    parts, differences = [], []
    with tempfile.TemporaryDirectory() as folder:
        files = write_videos(Path(folder), arguments.videos, arguments.seconds)
        for views in (3, 1):
            alike = dataset(files[:1], views, resample=2, antialias=False)[0]["pixel_values_videos"]
            difference = float((read_as_released(files[0], views, mean, std) - alike).abs().mean())
            if not difference <= TOLERANCE:
                raise ValueError(f"the two ways differ by {difference:.3f} in the mean (expected at most {TOLERANCE}).")
            differences.append(difference)
            ours = dataset(files, views)
            names = [f"{who}, {views} view{'s' * (views > 1)}" for who in ("this package", "released loader")]

            def read_ours(ours=ours):
                return [ours[index] for index in range(len(ours))]

            def read_theirs(views=views):
                return [read_as_released(path, views, mean, std) for path in files]

            seconds = time_rounds(dict(zip(names, (read_ours, read_theirs), strict=True)), arguments.rounds)
            found = comparison("", seconds, {"released": names[1]}, settings, load)
            for entry in found["contenders"]:
                entry["extra"] = {
                    "videos/s": f"{arguments.videos / entry['median_ms'] * 1e3:.3g}",
                    "times as fast as released": f"{1 / entry['ratio_to_released']:.3g}",
                }
            parts.append(found)
    title = f"{arguments.videos} videos of {arguments.seconds} s, {FRAMES} frames a view, one thread"
    notes = [
        f"With the released interpolation (bilinear, no antialias) both give the same frames: mean difference "
        f"{max(differences):.4f} in normalised units.",
        "What is timed of this package is its default, antialiased bicubic.",
    ]
    whole = {"title": title, "notes": notes, "references": {}, "benchmark": "loader"}
    return parts[0] | whole | {"contenders": [entry for part in parts for entry in part["contenders"]]}
