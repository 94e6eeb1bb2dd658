"""The forked process of `max_seconds`: what it holds of its parent."""

import gc
import socket

import pytest
from drawn_clips import HEIGHT, WIDTH, write

from vitaclip_hf import VideoDecodingError, open_video
from vitaclip_hf.model import decoding_process


def test_a_connection_that_its_parent_closes_is_closed(tmp_path, monkeypatch):
    """Else the client of a web page waits for ever: the process would keep the server's end open."""
    write(tmp_path / "clip.mp4", g=12)
    server, client = socket.socketpair()
    monkeypatch.setattr(decoding_process, "IDLE", [])
    video = open_video(tmp_path / "clip.mp4", max_seconds=60)  # forks while the connection is open
    server.close()
    client.settimeout(10)
    assert client.recv(1) == b""
    client.close()
    assert video.read([0]).shape == (1, 3, HEIGHT, WIDTH)


def test_an_error_frees_its_process_at_once(monkeypatch, request):
    """An error that is part of a cycle keeps it: each damaged file before the next collection had its own process."""
    monkeypatch.setattr(decoding_process, "IDLE", [])
    request.addfinalizer(gc.enable)
    gc.disable()
    for _ in range(3):
        pytest.raises(VideoDecodingError, open_video, b"no video", max_seconds=60)
    assert len(decoding_process.IDLE) == 1
