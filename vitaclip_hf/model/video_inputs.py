"""What users give as a video, told apart: encoded files, arrays of frames, lists of images; and batches of them."""

import io
import os
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import PurePath
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import torch
from PIL import Image, ImageOps
from transformers.image_utils import ChannelDimension
from transformers.video_utils import VideoMetadata

from .decoding import Video, open_video
from .read_options import ReadOptions
from .sources import (
    NotAVideoError,
    VideoTooLargeError,
    check_pixels,
    failure,
    opened_source,
)


class VideoOfFrames(Video):
    """A video whose frames are in memory already.

    Args:
        frames (`torch.Tensor` of shape `(num_frames, 3, height, width)`): the frames.
        metadata: what is known beside the frames, such as `fps`.
    """

    def __init__(self, frames: torch.Tensor, metadata: VideoMetadata | dict | None = None):
        given = dict(metadata or {})
        given.pop("frames_left_out", None)  # of encoded videos
        about = VideoMetadata(**({"total_num_frames": len(frames)} | given))
        about.total_num_frames, about.height, about.width = len(frames), *frames.shape[-2:]
        super().__init__("frames in memory", about, max_bytes=None)
        self._frames = frames

    def _decode(self, numbers: list[int]) -> torch.Tensor:
        return self._frames[[number for number in numbers if number < len(self._frames)]]


def video_from(
    source: Any,
    options: ReadOptions | None = None,
    *,
    metadata: VideoMetadata | dict | None = None,
    layout: str | ChannelDimension | None = None,
    scale: bool = True,
    **fields: Any,
) -> Video:
    """
    Any single video as a [`Video`].

    Args:
        source: path, URL, bytes, file object, `{"path": …, "bytes": …}`, array or tensor of frames, or a list of
            images, arrays or image files; or an opened [`Video`], which is returned.
        options ([`ReadOptions`], *optional*): of encoded videos; its limits hold for lists of image files too.
        metadata: what is known of frames in memory.
        layout, scale: of frames in memory, see [`to_frames`].
        fields: fields of [`ReadOptions`] in place of those of `options`.

    Raises:
        VideoDecodingError: a source that cannot be read.
        TypeError, ValueError: frames that are no pictures.
    """
    if isinstance(source, Video):
        return source
    options = ReadOptions.of(options, **fields)
    if is_encoded(source):
        return open_video(source, options)
    if isinstance(source, (list, tuple)):
        source = opened_images(source, options)
    return VideoOfFrames(to_frames(source, layout, scale), metadata)


def is_encoded(source) -> bool:
    """Whether the decoder has to read it: a path, a URL, bytes, a file object or `{"path": …, "bytes": …}`."""
    if isinstance(source, dict):
        return bool(source) and source.keys() <= {"path", "bytes"}
    return isinstance(source, (str, os.PathLike, bytes, bytearray, memoryview)) or (
        callable(getattr(source, "read", None))
    )


def is_list_of_image_files(item) -> bool:
    """Whether these are the frames of one video as paths or URLs of images, told by their extensions."""
    return (
        isinstance(item, (list, tuple))
        and len(item) > 0
        and all(isinstance(part, (str, os.PathLike)) for part in item)
        and all(_suffix(part) in Image.registered_extensions() for part in item)
        and not any(_suffix(part) in (".gif", ".mpg", ".mpeg") for part in item)
    )


def _suffix(path: str | os.PathLike) -> str:
    """The extension of a path or URL."""
    return PurePath(urlsplit(os.fsdecode(path)).path).suffix.lower()


def is_frame(item) -> bool:
    return isinstance(item, Image.Image) or (isinstance(item, (np.ndarray, torch.Tensor)) and item.ndim in (2, 3))


def is_single_video(videos) -> bool:
    """Whether this is one video: an opened or encoded one, an array `[T, …]`, or a list of frames."""
    if isinstance(videos, Video) or is_encoded(videos):
        return True
    if isinstance(videos, (np.ndarray, torch.Tensor)):
        return videos.ndim == 4
    return isinstance(videos, (list, tuple)) and len(videos) > 0 and all(is_frame(item) for item in videos)


def batch_of_videos(videos) -> list:
    """
    One video, or a list of them, as a list of videos.

    Other processors take batches nested by sample, `[[video], [video]]`: inner lists of videos are joined. A list of
    image files or of frames is one video.
    """
    if is_single_video(videos):
        return [videos]
    if isinstance(videos, (np.ndarray, torch.Tensor)) and videos.ndim == 5:
        return list(videos)
    if isinstance(videos, (list, tuple)) and len(videos) and not any(is_frame(item) for item in videos):
        return [video for item in videos for video in _videos_of(item)]
    raise NotAVideoError(
        "Expected a video or a list of videos: paths, URLs, bytes, file objects, arrays [T, H, W, 3], or lists of "
        f"frames; got {_describe(videos)}."
    )


def _videos_of(item) -> list:
    """An item of a batch: a video, or a nested list of videos."""
    if is_single_video(item) or is_list_of_image_files(item):
        return [item]
    if isinstance(item, (list, tuple)) and item and all(is_single_video(part) for part in item):
        return list(item)
    raise NotAVideoError(f"Expected a video within the list of videos, got {_describe(item)}.")


def _describe(item) -> str:
    if isinstance(item, (np.ndarray, torch.Tensor)):
        return f"an array of shape {list(item.shape)}"
    if isinstance(item, (list, tuple)):
        return f"a {type(item).__name__} of {', '.join(sorted({type(part).__name__ for part in item})) or 'nothing'}"
    return type(item).__name__


def to_frames(video, layout: str | ChannelDimension | None = None, scale: bool = True) -> torch.Tensor:
    """Frames that are already there as one tensor `[T, 3, H, W]`, uint8 or float32.

    Args:
        video: array or tensor `[T, H, W, C]` or `[T, C, H, W]`, or a list of images, arrays or image files.
        layout: where the channels are (`"channels_first"` or `"channels_last"`), if the shape does not tell.
        scale: whether floats, which lie in 0 … 1, become 0 … 255 as uint8 frames are.
    """
    if isinstance(video, (list, tuple)):
        if not video:
            raise ValueError("A video needs at least one frame, got an empty list.")
        frames = [_image_to_frame(frame, layout, scale) for frame in opened_images(video)]
        if len({frame.shape for frame in frames}) > 1:
            sizes = ", ".join(sorted({f"{frame.shape[-2]} x {frame.shape[-1]}" for frame in frames}))
            raise ValueError(f"All frames of a video must have one size, got {sizes}.")
        return torch.stack(frames)
    return _to_rgb(_to_tensor(video), layout, scale)


def _to_tensor(array: np.ndarray | torch.Tensor) -> torch.Tensor:
    if isinstance(array, torch.Tensor):
        return array.detach()
    if not isinstance(array, np.ndarray):
        raise NotAVideoError(f"Frames must be arrays, tensors or images, got {type(array).__name__}.")
    if array.dtype.kind not in "buifc" or array.dtype.itemsize > 16 or array.dtype.char == "g":
        raise NotAVideoError(f"Frames must hold numbers, got an array of {array.dtype}.")
    return torch.from_numpy(np.ascontiguousarray(array, array.dtype.newbyteorder("=")))


# Pillow reads more, but for some it starts another program (EPS) or reads other files.
IMAGE_FORMATS = ("AVIF", "BMP", "DIB", "GIF", "JPEG", "JPEG2000", "MPO", "PNG", "PPM", "SGI", "TGA", "TIFF", "WEBP")


def opened_images(images: Sequence[Any], options: ReadOptions | None = None) -> list[Any]:
    """
    The images of a list, those of paths and URLs opened but not decoded.

    Args:
        images: images, arrays, or image files: paths, URLs, bytes, file objects or `{"path": …, "bytes": …}`.
        options ([`ReadOptions`], *optional*): its limits hold for the whole list.

    Raises:
        VideoTooLargeError: the images exceed a limit.
        VideoDecodingError: an image file cannot be read.
    """
    opened, size, received = [], 0, 0
    options = options or ReadOptions()
    end = None if options.download_seconds is None else time.monotonic() + options.download_seconds
    for image in images:
        if is_encoded(image):
            bytes_left = None if options.max_download_bytes is None else max(options.max_download_bytes - received, 1)
            seconds_left = None if end is None else max(end - time.monotonic(), 1e-3)
            left = replace(options, max_download_bytes=bytes_left, download_seconds=seconds_left)
            name, file = opened_source(image, left)
            received += len(file) if isinstance(file, bytes) else 0
            try:
                image = Image.open(io.BytesIO(file) if isinstance(file, bytes) else file, formats=_image_formats())
            except Image.DecompressionBombError as error:
                raise failure(name, error, "opening", "Make it smaller.", VideoTooLargeError) from error
            except Exception as error:  # Pillow raises SyntaxError and others for damaged files
                raise failure(name, error, "opening", "Give the path or URL of an image file.") from error
            check_pixels(name, *image.size, options.max_frame_pixels)
            size += image.width * image.height * 3
            if options.max_bytes is not None and size > options.max_bytes:
                reason = f"the images up to here take {size:,} bytes, the limit is {options.max_bytes:,}"
                raise failure(name, reason, "opening", "Take fewer, or raise `max_bytes`.", VideoTooLargeError)
            try:
                image = ImageOps.exif_transpose(image)  # reads the pixels
            except Exception as error:
                raise failure(name, error, "decoding", "The image is damaged: fetch it again.") from error
        opened.append(image)
    return opened


def _image_formats() -> list[str]:
    Image.init()  # registers them, once
    return [name for name in IMAGE_FORMATS if name in Image.OPEN]


def _image_to_frame(image: Any, layout: str | ChannelDimension | None, scale: bool) -> torch.Tensor:
    if isinstance(image, Image.Image):
        if image.mode not in ("I", "F") and not image.mode.startswith("I;"):
            return torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1)
        array = np.array(image)
        # Mode I;16 uses all of its 16 bits. The range of I and F is unknown, so they are read as arrays are.
        if image.mode.startswith("I;16"):
            array = (array.astype(np.uint32) * 255 + 32767) // 65535
        image = array.astype(np.float32 if array.dtype.kind == "f" else np.int64)
    frame = _to_tensor(image)
    if frame.ndim == 2:
        frame, layout = frame[None], ChannelDimension.FIRST
    return _to_rgb(frame[None], layout, scale)[0]


def _to_rgb(frames: torch.Tensor, layout, scale: bool) -> torch.Tensor:
    """`[T, H, W, C]` or `[T, C, H, W]` with 1, 3 or 4 channels to `[T, 3, H, W]`."""
    if 0 in frames.shape:
        raise ValueError(f"A video needs at least one frame, got an array of shape {list(frames.shape)}.")
    if layout is None:
        layout = ChannelDimension.LAST if frames.shape[-1] in (1, 3, 4) else ChannelDimension.FIRST
    if ChannelDimension(layout) == ChannelDimension.LAST:
        frames = frames.permute(0, 3, 1, 2)
    if frames.shape[1] not in (1, 3, 4):
        raise ValueError(f"Frames must have 1, 3 or 4 channels, first or last; got the shape {list(frames.shape)}.")
    frames = frames.expand(-1, 3, -1, -1) if frames.shape[1] == 1 else frames[:, :3]
    if frames.dtype == torch.uint8:
        return frames
    if frames.dtype == torch.bool or frames.is_complex():
        kind = "booleans" if frames.dtype == torch.bool else "complex numbers"
        raise NotAVideoError(f"Frames of {kind} are no pictures; give uint8, or floats in 0 … 1.")
    if not frames.is_floating_point():
        frames = frames.to(torch.int64)
        if frames.min() < 0 or frames.max() > 255:
            found = f"{int(frames.min())} … {int(frames.max())}"
            raise ValueError(f"Whole-number frames must lie in 0 … 255, got {found}.")
        return frames.to(torch.uint8)
    low, high = float(frames.min()), float(frames.max())
    if not (low >= 0 and high <= 1):
        raise ValueError(
            f"Floating-point frames must lie in 0 … 1, got {low:.3g} … {high:.3g}; normalising comes later."
        )
    return frames.float() * 255 if scale else frames.float()
