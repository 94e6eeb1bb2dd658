"""Shared by the tests of data: a few small videos."""

import pytest
import torch

from vitaclip_hf.data.motion_shapes import all_scenes, draw_videos, write_video


@pytest.fixture(scope="session")
def video_files(tmp_path_factory) -> list[str]:
    """Paths of 11 videos of 12 frames of 64 x 64, all different."""
    folder = tmp_path_factory.mktemp("videos")
    clips = draw_videos(all_scenes()[:11], torch.Generator().manual_seed(0), num_frames=12, size=64)
    paths = [str(folder / f"{number}.mp4") for number in range(len(clips))]
    for path, frames in zip(paths, clips, strict=True):
        write_video(path, frames.numpy())
    return paths
