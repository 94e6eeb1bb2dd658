"""Draws a video of joined scenes with known cuts, and measures how well the demo checkpoint finds them.

python examples/demo/evaluate_timeline.py

Prints the temporal mAP over the labels, and how far the ends of found segments are from the true ones, for
segments that may overlap and for one label at a time. `--video` keeps the video and `--truth` its segments.
"""

import argparse
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import torch
from evaluate_zero_shot import SCENES, World
from world import draw_videos

from vitaclip_hf import load_checkpoint
from vitaclip_hf.data.video_writing import write_video
from vitaclip_hf.library.timeline import Segment, VideoTimeline
from vitaclip_hf.library.timeline_files import write_timeline


DEMO = Path(__file__).resolve().parent
FPS = 16


def temporal_average_precision(
    truth: Iterable[Segment], found: Iterable[Segment], overlap: float = 0.5
) -> dict[str, float]:
    """
    Average precision of each label, as ActivityNet counts it.

    Found segments are gone through by score. One is right if its intersection over union (tIoU) with a true segment of
    its label is at least `overlap` and no better one has taken that true segment. Precision is interpolated: at each
    recall, the best precision at this recall or beyond counts.

    Args:
        truth, found ([`Segment`]): of one video.
        overlap (`float`, defaults to 0.5): the least tIoU.

    Returns:
        `dict[str, float]`: for each label of the truth. Their mean is the mAP.
    """
    truth, found = list(truth), list(found)
    result = {}
    for label in sorted({segment.label for segment in truth}):
        left = [segment for segment in truth if segment.label == label]
        total, hits = len(left), []
        for segment in sorted((s for s in found if s.label == label), key=lambda segment: -segment.score):
            best = max(left, key=lambda true: temporal_iou(true, segment), default=None)
            hits.append(best is not None and temporal_iou(best, segment) >= overlap)
            if best is not None and hits[-1]:
                left.remove(best)
        counts = np.cumsum(hits)
        precision = counts / np.arange(1, len(hits) + 1)
        best_from = np.maximum.accumulate(precision[::-1])[::-1]
        result[label] = float(best_from[np.array(hits, bool)].sum() / total) if hits else 0.0
    return result


def temporal_iou(one: Segment, other: Segment) -> float:
    """Intersection over union of two segments in time."""
    shared = max(min(one.end, other.end) - max(one.start, other.start), 0.0)
    union = (one.end - one.start) + (other.end - other.start) - shared
    return shared / union if union > 0 else 0.0


def differences(truth: Sequence[Segment], found: Sequence[Segment], overlap: float = 0.3) -> list[float]:
    """Seconds from true starts and ends to those of the found segments of the same label with this tIoU at least."""
    pairs = [(one, other) for one in truth for other in found if one.label == other.label]
    near = [(one, other) for one, other in pairs if temporal_iou(one, other) >= overlap]
    return [second for one, other in near for second in (other.start - one.start, other.end - one.end)]


def joined_scenes(
    count: int, seed: int, shortest: float = 2.0, longest: float = 4.0
) -> tuple[np.ndarray, list[Segment]]:
    """
    A video of scenes with cuts between them.

    Args:
        count (`int`): scenes; those next to each other differ.
        seed (`int`): of all draws.
        shortest, longest (`float`): lengths of a scene in seconds. The checkpoint was trained on scenes of 2 seconds;
            in a longer one the same motion is slower.

    Returns:
        Frames of shape `(num_frames, height, width, 3)`, and the true segments.
    """
    generator = torch.Generator().manual_seed(seed)
    world = World()
    pictures, truth, start, before = [], [], 0, None
    while len(truth) < count:
        scene = SCENES[int(torch.randint(len(SCENES), (1,), generator=generator))]
        if scene == before:
            continue
        length = int(torch.randint(round(shortest * FPS), round(longest * FPS) + 1, (1,), generator=generator))
        pictures.append(draw_videos(world, [scene], generator, times=(torch.arange(length) + 0.5) / length)[0].numpy())
        truth.append(Segment(start / FPS, (start + length) / FPS, scene.label, 1.0, 1.0))
        start, before = start + length, scene
    return np.concatenate(pictures), truth


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=str(DEMO / "checkpoint"), help="folder or Hub id")
    parser.add_argument("--scenes", type=int, default=60)
    parser.add_argument("--seed", type=int, default=2026)
    parser.add_argument("--window", type=float, default=2.0, help="seconds")
    parser.add_argument("--stride", type=float, default=0.5, help="seconds")
    parser.add_argument("--high", type=float, default=0.3, help="score that a segment reaches somewhere")
    parser.add_argument("--low", type=float, default=0.1, help="score at which it goes on")
    parser.add_argument("--shortest", type=float, default=2.0, help="shortest scene, in seconds")
    parser.add_argument("--longest", type=float, default=4.0, help="longest scene, in seconds")
    parser.add_argument("--video", type=Path, help="MP4 file to keep")
    parser.add_argument("--truth", type=Path, help="file for the true segments, such as truth.json")
    arguments = parser.parse_args()

    frames, truth = joined_scenes(arguments.scenes, arguments.seed, arguments.shortest, arguments.longest)
    labels = [scene.label for scene in SCENES]
    settings = {name: getattr(arguments, name) for name in ("window", "stride", "high", "low")}
    timeline = VideoTimeline(load_checkpoint(arguments.model).encoder(), labels, **settings)
    with tempfile.TemporaryDirectory() as folder:
        path = arguments.video or Path(folder) / "joined.mp4"
        write_video(path, frames, FPS)
        cells = list(timeline.cells(timeline.scores(path)))
        found = {"overlapping": list(timeline.merge(cells)), "one at a time": list(timeline.separate(cells, path))}
    if arguments.truth:
        write_timeline(arguments.truth, truth, path)
    print(f"{arguments.scenes} scenes in {len(frames) / FPS:.0f} s, {len({one.label for one in truth})} labels occur")
    for name, segments in found.items():
        values = [temporal_average_precision(truth, segments, overlap).values() for overlap in (0.3, 0.5, 0.7)]
        means = ", ".join(f"{sum(of_label) / len(of_label):.1%}" for of_label in values)
        away = np.abs(differences(truth, segments))
        print(f"{name}: {len(segments)} segments; mAP at tIoU 0.3, 0.5, 0.7: {means}")
        near = f"median {np.median(away):.2f} s away, {np.mean(away <= 0.25):.0%} within 0.25 s"
        print(f"  starts and ends of {len(away) // 2} that were found: {near}")


if __name__ == "__main__":
    main()
