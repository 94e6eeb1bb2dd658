"""Writes videos of the world's scenes as H.264 files, in one folder for each label.

    python examples/world/make_world_videos.py trained --copies 16 --dark-edges --output runs/world-videos
    python examples/world/make_world_videos.py demo --samples --output runs/samples --picture examples/world/frames.webp

`--samples` writes one video for each of the ten trained motions instead, named after what it shows; `--picture` has
eight frames of each, a row a video.
"""

import argparse
from pathlib import Path

import torch
from PIL import Image
from tqdm import tqdm
from world import PICTURES, Scene, World, darken_edges, draw_videos, letterboxed

from vitaclip_hf.data.video_writing import write_video


PARTS = ("trained", "demo", "unseen pairs", "unseen things", "unseen motions")
SAMPLES = [
    *(Scene("rocket", "up"), Scene("banana", "spinning"), Scene("snowflake", "down"), Scene("airplane", "right")),
    *(Scene("taxi", "left"), Scene("pizza", "shrinking"), Scene("balloon", "growing"), Scene("star", "blinking")),
    *(Scene("basketball", "bouncing"), Scene("bell", "shaking")),
]


def write_videos(
    world: World,
    scenes: list[Scene],
    folder: Path,
    copies: int,
    seed: int,
    style: str | None = None,
    dark_edges: bool = False,
    bars: bool = False,
) -> list[tuple[Path, str]]:
    """`copies` videos of each scene; their paths and labels. `dark_edges`, `bars`: `darken_edges`, `letterboxed`."""
    generator, files = torch.Generator().manual_seed(seed), []
    for copy in range(copies):
        for start in tqdm(range(0, len(scenes), 50), desc=f"copy {copy + 1} of {copies}", leave=False):
            batch = scenes[start : start + 50]
            videos = draw_videos(world, batch, generator, style=style)
            if dark_edges:
                videos = darken_edges(videos, generator)
            for scene, frames in zip(batch, videos, strict=True):
                path = folder / scene.label / f"{copy:03d}.mp4"
                path.parent.mkdir(parents=True, exist_ok=True)
                write_video(path, (letterboxed(frames[None])[0] if bars else frames).numpy())
                files.append((path, scene.label))
    return files


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=PARTS)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--copies", type=int, default=1, help="videos of each scene")
    parser.add_argument("--seed", type=int, default=2026)
    parser.add_argument("--style", help="of all pictures; a random shipped one by default")
    parser.add_argument("--held-back", type=Path, nargs="*", default=[], help="zip of the held-back style")
    parser.add_argument("--dark-edges", action="store_true", help="on every other video, as films between bars leave")
    parser.add_argument("--samples", action="store_true")
    parser.add_argument("--picture", type=Path, help="file for frames of the samples")
    arguments = parser.parse_args()
    world = World(PICTURES, *arguments.held_back)
    if arguments.samples:
        arguments.output.mkdir(parents=True, exist_ok=True)
        videos = draw_videos(world, SAMPLES, torch.Generator().manual_seed(arguments.seed))
        for scene, frames in zip(SAMPLES, videos, strict=True):
            write_video(arguments.output / f"{scene.label.replace(' ', '_')}.mp4", frames.numpy())
        if arguments.picture:
            rows = videos[:, 1::4, ::2, ::2].transpose(1, 2)  # [N, S, T, S, 3]
            Image.fromarray(rows.flatten(2, 3).flatten(0, 1).numpy()).save(arguments.picture, quality=85)
    else:
        scenes = world.scenes(arguments.part)
        options = arguments.output, arguments.copies, arguments.seed, arguments.style, arguments.dark_edges
        write_videos(world, scenes, *options)


if __name__ == "__main__":
    main()
