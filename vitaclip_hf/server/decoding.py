"""Decoding of uploads, each in a process of its own: a file that hangs or crashes a codec ends only that one."""

from typing import Any

import anyio
import anyio.to_thread
import torch
from transformers.video_utils import VideoMetadata

from ..model.shown_names import one_line
from ..model.sources import VideoDecodingError, VideoTooLargeError, described
from ..model.video_inputs import VideoReader
from .errors import RequestError
from .limits import Limits


async def read_upload(
    path: str, name: str, video_processor: Any, limits: Limits, decoders: anyio.Semaphore
) -> tuple[torch.Tensor, VideoMetadata]:
    """
    Pixels of shape `(num_views, num_frames, 3, height, width)`, and which frames they are.

    Args:
        path: of the uploaded file.
        name: the client's name of it, for messages.
        video_processor ([`VitaClipVideoProcessor`]): chooses frames, resizes and normalises.
        limits ([`Limits`]): of size and time.
        decoders: a place in it is waited for.

    Raises:
        RequestError: the file cannot be read, is too large or takes too long.
        TimeoutError: the time of the caller's `anyio.fail_after` has passed.
    """
    sizes = {"max_bytes": limits.decoded_bytes, "max_frame_pixels": limits.frame_pixels}
    left = float("inf")
    try:
        async with decoders:
            # No thread is cancelled, but its process is ended: by then at the latest.
            left = max(anyio.current_effective_deadline() - anyio.current_time(), 0.001)
            reader = VideoReader(video_processor, max_seconds=min(limits.decode_seconds, left), **sizes)
            return await anyio.to_thread.run_sync(reader.read, path)
    except VideoDecodingError as error:
        if isinstance(error.__cause__, TimeoutError) and left < limits.decode_seconds:
            raise TimeoutError from error
        # Without advice, which is for who runs the server.
        message = one_line(f"Cannot read the video {name}: {described(error.cause)}.").replace(path, name)
        if isinstance(error, VideoTooLargeError):
            raise RequestError(413, "video_too_large", message) from error
        kind = "decoding_too_slow" if isinstance(error.__cause__, TimeoutError) else "unreadable_video"
        raise RequestError(422, kind, message) from error
