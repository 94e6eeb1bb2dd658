"""Decoding of uploads, each in a process of its own: a file that hangs or crashes a codec ends only that one."""

from dataclasses import dataclass
from typing import Any

import anyio
import anyio.to_thread
import numpy as np

from ..model.sources import VideoDecodingError, VideoTooLargeError
from ..model.video_reader import VideoReader
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


class UploadReader:
    """
    Reads uploaded files, `limits.decoders` at once.

    Args:
        video_processor ([`VitaClipVideoProcessor`]): chooses frames, resizes and normalises.
        limits ([`Limits`]): of size and time.
    """

    def __init__(self, video_processor: Any, limits: Limits):
        self.video_processor, self.limits = video_processor, limits
        self._places = anyio.Semaphore(limits.decoders)

    async def read(self, path: str, name: str) -> Clip:
        """
        Args:
            path: of the uploaded file.
            name: what the client calls it, for messages.

        Raises:
            RequestError: the file cannot be read, is too large or takes too long.
        """
        try:
            async with self._places:
                return await anyio.to_thread.run_sync(self._read, path)
        except VideoTooLargeError as error:
            raise RequestError(413, "video_too_large", _message(error, path, name)) from error
        except VideoDecodingError as error:
            kind = "decoding_too_slow" if isinstance(error.__cause__, TimeoutError) else "unreadable_video"
            raise RequestError(422, kind, _message(error, path, name)) from error

    def _read(self, path: str) -> Clip:
        limits = self.limits
        reader = VideoReader(
            self.video_processor,
            max_seconds=limits.decode_seconds,
            max_bytes=limits.decoded_bytes,
            max_frame_pixels=limits.frame_pixels,
        )
        pixels, metadata = reader.read(path)
        times = list(metadata.timestamps) if metadata.fps else None
        return Clip(pixels.numpy(), list(metadata.frames_indices or ()), times)


def _message(error: VideoDecodingError, path: str, name: str) -> str:
    return " ".join(str(error).replace(path, name).split())
