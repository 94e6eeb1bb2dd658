"""Decoding in processes of their own: a file that takes too long or crashes a codec ends only its process."""

import asyncio
import concurrent.futures
import multiprocessing
from dataclasses import dataclass
from typing import Any

import numpy as np
import pebble
import torch

from ..data.clip_reading import ClipReader
from ..model.decoding import open_video
from ..model.sources import VideoDecodingError, VideoTooLargeError
from .errors import RequestError
from .limits import Limits


@dataclass(frozen=True)
class Clip:
    """
    Model input of one video.

    Attributes:
        pixels (`np.ndarray` of shape `(num_views, num_frames, 3, height, width)`): float32.
        frames (`list[int]`): numbers of the frames, view after view.
        times (`list[float]`, *optional*): when each is shown, in seconds.
    """

    pixels: np.ndarray
    frames: list[int]
    times: list[float] | None


_reader: ClipReader | None = None  # of a decoding process


def _start(video_processor: Any, max_bytes: int) -> None:
    global _reader
    torch.set_num_threads(1)
    _reader = ClipReader(video_processor, video_processor.clip_specification, max_bytes=max_bytes)


def _ready() -> bool:
    return _reader is not None


def _read(path: str, max_frame_pixels: int) -> Clip:
    reader = _reader
    if reader is None:
        raise RuntimeError("the decoding process was not started with a video processor")
    video = open_video(
        path,
        decoder=reader.decoder,
        on_damage=reader.video_processor.on_damage,
        max_frame_pixels=max_frame_pixels,
        **reader.limits,
    )
    pixels = reader.read(video, seed=0).numpy()
    about = video.metadata
    return Clip(pixels, list(about.frames_indices or ()), list(about.timestamps) if about.fps else None)


class DecodingPool:
    """
    A few processes that read uploaded files.

    Args:
        video_processor ([`VitaClipVideoProcessor`]): chooses frames, resizes and normalises.
        limits ([`Limits`]): of size and time.
    """

    def __init__(self, video_processor: Any, limits: Limits):
        self.limits = limits
        self._pool = pebble.ProcessPool(
            max_workers=limits.decoders,
            context=multiprocessing.get_context("spawn"),
            initializer=_start,
            initargs=(video_processor, limits.decoded_bytes),
        )

    async def start(self) -> None:
        """Waits until a process is up, so that the first request needs not."""
        started: list[concurrent.futures.Future] = [self._pool.submit(_ready, 300) for _ in range(self.limits.decoders)]
        await asyncio.gather(*map(asyncio.wrap_future, started))

    async def read(self, path: str, name: str) -> Clip:
        """
        Args:
            path: of the uploaded file.
            name: what the client calls it, for messages.

        Raises:
            RequestError: the file cannot be read, is too large or takes too long.
        """
        task = self._pool.schedule(_read, args=(path, self.limits.frame_pixels), timeout=self.limits.decode_seconds)
        try:
            return await asyncio.wrap_future(task)
        except VideoTooLargeError as error:
            raise RequestError(413, "video_too_large", _about(error, path, name)) from error
        except VideoDecodingError as error:
            raise RequestError(422, "unreadable_video", _about(error, path, name)) from error
        except (
            TimeoutError,
            asyncio.TimeoutError,
            concurrent.futures.TimeoutError,
        ) as error:  # one from Python 3.11 on
            found = f"{name}: not decoded within {self.limits.decode_seconds:g} s; send a shorter or smaller video."
            raise RequestError(422, "decoding_too_slow", found) from error
        except pebble.ProcessExpired as error:
            raise RequestError(422, "unreadable_video", f"{name}: the decoder crashed on this file.") from error

    def stop(self) -> None:
        """Ends the processes."""
        self._pool.stop()
        self._pool.join()


def _about(error: VideoDecodingError, path: str, name: str) -> str:
    return " ".join(str(error).replace(path, name).split())
