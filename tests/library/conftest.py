"""The demo checkpoint, a long video and a damaged one, for the tests of this room."""

from pathlib import Path

import pytest
import torch
from world import Scene, draw_videos

from vitaclip_hf.data.video_writing import write_video


@pytest.fixture(scope="session")
def scenes() -> list[Scene]:
    names = (("taxi", "left"), ("rocket", "up"), ("snowflake", "down"), ("balloon", "growing"))
    return [Scene(*name) for name in names]


@pytest.fixture(scope="session")
def joined(world, scenes, tmp_path_factory) -> Path:
    """Four scenes of two seconds, 16 frames a second."""
    path = tmp_path_factory.mktemp("videos") / "joined.mp4"
    write_video(path, draw_videos(world, scenes, torch.Generator().manual_seed(1), size=112).flatten(0, 1).numpy())
    return path


@pytest.fixture(scope="session")
def damaged(joined) -> bytes:
    """The same with its end overwritten, from about 60% on."""
    whole = joined.read_bytes()
    place = whole.index(b"mdat") + int(0.6 * (len(whole) - whole.index(b"mdat")))
    return whole[:place] + b"\xff" * 1500 + whole[place + 1500 :]
