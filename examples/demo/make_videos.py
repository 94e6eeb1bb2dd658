"""Writes the demo's sample videos: held-out scenes as H.264 files, named after what they show.

python examples/demo/make_videos.py --output examples/demo/videos
"""

import argparse
from pathlib import Path

import torch

from vitaclip_hf.data.motion_shapes import Scene, all_scenes, draw_videos, write_video


def choose_scenes() -> list[Scene]:
    """One held-out scene of each motion, going through the held-out objects in turn."""
    held_out = all_scenes(held_out=True)
    return [held_out[(motion % 6) * 10 + motion] for motion in range(10)]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=2026)
    arguments = parser.parse_args()
    arguments.output.mkdir(parents=True, exist_ok=True)
    scenes = choose_scenes()
    videos = draw_videos(scenes, torch.Generator().manual_seed(arguments.seed))
    for scene, frames in zip(scenes, videos, strict=True):
        write_video(arguments.output / f"{scene.label.replace(' ', '_')}.mp4", frames.numpy())


if __name__ == "__main__":
    main()
