"""The forked process of `max_seconds`: what it holds of its parent."""

import gc
import os
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor

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


def test_threads_fork_one_after_the_other(tmp_path, monkeypatch):
    """From Python 3.12 on, filelock raises a RuntimeError if two threads fork at once."""
    write(tmp_path / "clip.mp4", g=12)
    monkeypatch.setattr(decoding_process, "IDLE", [])
    running, fork = threading.Lock(), os.fork

    def watched():
        assert running.acquire(blocking=False)
        time.sleep(0.02)
        pid = fork()
        running.release()
        return pid

    monkeypatch.setattr(os, "fork", watched)
    with ThreadPoolExecutor(4) as pool:
        videos = list(pool.map(lambda _: open_video(tmp_path / "clip.mp4", max_seconds=60), range(4)))
    assert len({id(video._process._process) for video in videos}) == 4
