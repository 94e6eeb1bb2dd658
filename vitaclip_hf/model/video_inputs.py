"""From what users give as a video (encoded files, arrays of frames, lists of images) to frames and to model input."""

import io
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import fields, replace
from pathlib import PurePath
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import torch
from PIL import Image, ImageOps
from transformers.image_utils import ChannelDimension
from transformers.video_utils import VideoMetadata

from .decoding import Video, open_video, torchcodec_video
from .frame_sampling import ClipSpecification
from .read_options import ReadOptions
from .sources import BYTES, NotAVideoError, VideoDecodingError, VideoTooLargeError, check_pixels, failure, opened_source


# What can be set of reading a video, with the defaults.
SETTINGS = {field.name: field.default for kind in (ClipSpecification, ReadOptions) for field in fields(kind)}
MAX_ASPECT_RATIO = 100  # of frames that are resized
ROUNDING = 1e-3  # by which floats may lie beyond 0 … 1
# Pillow reads more, but for some it starts another program (EPS) or reads other files.
IMAGE_FORMATS = {"AVIF", "BMP", "DIB", "GIF", "JPEG", "JPEG2000", "MPO", "PNG", "PPM", "SGI", "TGA", "TIFF", "WEBP"}


class VideoOfFrames(Video):
    """Frames `[T, 3, H, W]` in memory, and what is known beside them, such as `fps`."""

    def __init__(self, frames: torch.Tensor, metadata: VideoMetadata | dict | None = None):
        known = {item.name: dict(metadata or {}).get(item.name) for item in fields(VideoMetadata)}
        size = {"total_num_frames": len(frames), "height": frames.shape[-2], "width": frames.shape[-1]}
        super().__init__("frames in memory", VideoMetadata(**known | size), max_bytes=None)
        self._frames = frames

    def _decode(self, numbers: list[int]) -> torch.Tensor:
        return self._frames[numbers]


def video_from(
    source: Any,
    options: ReadOptions | None = None,
    *,
    metadata: VideoMetadata | dict | None = None,
    layout: str | ChannelDimension | None = None,
    scale: bool = True,
) -> Video:
    """
    Any single video as a [`Video`]: what [`open_video`] takes, an array or tensor of frames, a list of images, arrays
    or image files, or an opened [`Video`]. Of frames in memory, `metadata` is what is known; see [`to_frames`] too.
    """
    if isinstance(source, Video):
        return source
    options = options or ReadOptions()
    if is_encoded(source):
        return open_video(source, options)
    if _is_decoder(source):
        return torchcodec_video("a decoded video", source, options.max_bytes)
    return VideoOfFrames(to_frames(source, layout, scale, options), metadata)


def check_shape(video: Video) -> None:
    """Raises `VideoTooLargeError` if one side of the frames is so much longer that resizing them takes gigabytes."""
    height, width = video.metadata.height or 0, video.metadata.width or 0
    if max(height, width) > MAX_ASPECT_RATIO * min(height, width):
        cause = f"its frames have {width} x {height} pixels, one side over {MAX_ASPECT_RATIO} times the other"
        raise failure(video.name, cause, "resizing", "Crop it.", VideoTooLargeError)


def is_encoded(source: Any) -> bool:
    """Whether the decoder has to read it: a path, a URL, bytes, a file object or `{"path": …, "bytes": …}`."""
    if isinstance(source, dict):
        return bool(source) and source.keys() <= {"path", "bytes"}
    return isinstance(source, (str, os.PathLike, *BYTES)) or callable(getattr(source, "read", None))


def _is_decoder(source: Any) -> bool:
    """Whether this is torchcodec's `VideoDecoder`, which `datasets` gives for its videos."""
    return type(source).__module__.startswith("torchcodec.")


def is_list_of_image_files(item: Any) -> bool:
    """Whether these are the frames of one video as paths or URLs of images, told by their extensions."""
    if not (isinstance(item, (list, tuple)) and item and all(isinstance(part, (str, os.PathLike)) for part in item)):
        return False
    names = map(os.fsdecode, item)
    extensions = {PurePath(urlsplit(name).path if "://" in name else name).suffix.lower() for name in names}
    return extensions <= Image.registered_extensions().keys() - {".gif", ".mpg", ".mpeg"}


def _axes(item: Any) -> int:
    """Axes of an array, a tensor or an image; 0 for anything else."""
    return 3 if isinstance(item, Image.Image) else item.ndim if isinstance(item, (np.ndarray, torch.Tensor)) else 0


def is_single_video(videos: Any) -> bool:
    """Whether this is one video: an opened or encoded one, an array `[T, …]`, or a list of frames."""
    if isinstance(videos, (list, tuple)):
        return len(videos) > 0 and all(_axes(item) in (2, 3) for item in videos)
    return isinstance(videos, Video) or _is_decoder(videos) or is_encoded(videos) or _axes(videos) == 4


def batch_of_videos(videos: Any) -> list:
    """A list of one video or several; inner lists of videos are joined, one of image files or frames is a video."""
    if is_single_video(videos):
        return [videos]
    if _axes(videos) == 5:
        return list(videos)
    kind = type(videos).__name__ + (f" of shape {list(videos.shape)}" if hasattr(videos, "shape") else "")
    if isinstance(videos, (list, tuple)):
        if videos and not any(_axes(item) in (2, 3) for item in videos):
            parts = [[item] if is_list_of_image_files(item) else batch_of_videos(item) for item in videos]
            return [video for part in parts for video in part]
        kind += f" of {', '.join(sorted({type(part).__name__ for part in videos})) or 'nothing'}"
    raise NotAVideoError(f"Expected a video or a list of videos (see VitaClipVideoProcessor), got {kind}.")


def to_frames(
    video: Any, layout: str | ChannelDimension | None = None, scale: bool = True, options: ReadOptions | None = None
) -> torch.Tensor:
    """
    An array or tensor `[T, H, W, C]` or `[T, C, H, W]`, or a list of images, arrays or image files, as one tensor
    `[T, 3, H, W]`, uint8 or float32. `layout` is for shapes that do not tell; with `scale`, floats become 0 … 255.
    """
    if not isinstance(video, (list, tuple)):
        return _to_rgb(_to_tensor(video), layout, scale)
    if not video:
        raise ValueError("A video needs at least one frame, got an empty list.")
    frames: list[torch.Tensor] = []
    for image in _opened_images(video, options or ReadOptions()):
        order = layout
        if isinstance(image, Image.Image):  # of more than 8 bits as it is: Pillow would clip its values
            image, order = np.array(image if image.mode[0] in "IF" else image.convert("RGB")), ChannelDimension.LAST
        frame = _to_tensor(image)
        if frame.ndim == 2:
            frame, order = frame[None], ChannelDimension.FIRST
        frames += _to_rgb(frame[None], order, scale)
    if len(sizes := {f"{frame.shape[-2]} x {frame.shape[-1]}" for frame in frames}) > 1:
        raise ValueError(f"All frames of a video must have one size, got {', '.join(sorted(sizes))}.")
    return torch.stack(frames)


def _opened_images(images: Sequence[Any], options: ReadOptions) -> Iterator[Any]:
    """Images and arrays as they are, and image files opened; the limits are of the whole list."""
    most_bytes, most_seconds = options.max_download_bytes, options.download_seconds
    size, received, start = 0, 0, time.monotonic()
    Image.init()
    for image in images:
        if not is_encoded(image):
            yield image
            continue
        bytes_left = most_bytes and max(most_bytes - received, 1)
        seconds_left = most_seconds and max(start + most_seconds - time.monotonic(), 1e-3)
        left = replace(options, max_download_bytes=bytes_left, download_seconds=seconds_left)
        name, file = opened_source(image, left)
        received += len(file) if isinstance(file, bytes) else 0
        try:
            content: Any = io.BytesIO(file) if isinstance(file, bytes) else file
            image = Image.open(content, formats=sorted(IMAGE_FORMATS & Image.OPEN.keys()))
            check_pixels(name, *image.size, options.max_frame_pixels)
            size += image.width * image.height * 3
            if options.max_bytes is not None and size > options.max_bytes:
                cause = f"the images up to here take {size:,} bytes, the limit is {options.max_bytes:,}"
                raise failure(name, cause, "opening", "Take fewer, or raise `max_bytes`.", VideoTooLargeError)
            image = ImageOps.exif_transpose(image)  # reads the pixels
        except VideoDecodingError:
            raise
        except Exception as error:  # Pillow raises SyntaxError and others for damaged files
            kind = VideoTooLargeError if isinstance(error, Image.DecompressionBombError) else VideoDecodingError
            raise failure(name, error, "opening", "Give a whole, smaller image file.", kind) from error
        yield image


def _to_tensor(array: Any) -> torch.Tensor:
    if isinstance(array, torch.Tensor):
        return array.detach()
    if not isinstance(array, np.ndarray) or array.dtype.kind not in "buifc":
        kind = f"an array of {array.dtype}" if isinstance(array, np.ndarray) else type(array).__name__
        raise NotAVideoError(f"Frames must be images, or arrays or tensors of numbers, got {kind}.")
    return torch.from_numpy(np.ascontiguousarray(array, array.dtype.newbyteorder("=")))


def _to_rgb(frames: torch.Tensor, layout: str | ChannelDimension | None, scale: bool) -> torch.Tensor:
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
        raise NotAVideoError(f"Frames of {frames.dtype} are no pictures; give uint8, or floats in 0 … 1.")
    frames = frames.float() if frames.is_floating_point() else frames.to(torch.int64)
    most = 1 if frames.is_floating_point() else 255
    if most == 1 and frames.min() > -ROUNDING and frames.max() < 1 + ROUNDING:  # resized pictures, for example
        frames = frames.clamp(0, 1)
    low, high = frames.min().item(), frames.max().item()
    if not (low >= 0 and high <= most):
        raise ValueError(f"Frames of {frames.dtype} must lie in 0 … {most}, got {low:.6g} … {high:.6g}.")
    return frames.to(torch.uint8) if most == 255 else frames * 255 if scale else frames


class VideoReader:
    """
    Reads videos as a video processor says. Every tool of the package reads videos with it.

    Args:
        video_processor ([`VitaClipVideoProcessor`]): resizes, crops and normalises.
        settings: fields of [`ClipSpecification`] and [`ReadOptions`]; `None` keeps the processor's own.
    """

    def __init__(self, video_processor: Any, **settings: Any):
        self.video_processor = video_processor
        if unknown := sorted(settings.keys() - SETTINGS):
            raise TypeError(f"unknown setting `{unknown[0]:.100}`; known are {', '.join(SETTINGS)}.")
        chosen = {name: value for name, value in settings.items() if value is not None}
        clip = {field.name: chosen.pop(field.name) for field in fields(ClipSpecification) if field.name in chosen}
        self.specification: ClipSpecification = replace(video_processor.clip_specification, **clip)
        self.options: ReadOptions = replace(video_processor.read_options, **chosen)

    def open(self, source: Any) -> Video:
        """A source as a [`Video`], see [`VitaClipVideoProcessor`] for what it may be."""
        return video_from(source, self.options)

    def read(self, source: Any, seed: int | None = 0) -> tuple[torch.Tensor, VideoMetadata]:
        """
        Model input of one video, `(num_views, num_frames, 3, height, width)`, where the spatial views of one temporal
        view follow each other; and the metadata, whose `frames_indices` and `timestamps` say what was read.
        """
        settings = vars(self.specification) | vars(self.options)
        batch = self.video_processor([source], return_tensors="pt", return_metadata=True, seed=seed, **settings)
        metadata = batch["video_metadata"]
        if len(metadata) != 1:
            raise NotAVideoError(f"Expected one video, got a list of {len(metadata)} videos.")
        return batch["pixel_values_videos"].flatten(0, -5), metadata[0]

    def process(self, clip: torch.Tensor) -> torch.Tensor:
        """Model input `(num_spatial_views, num_frames, 3, height, width)` of uint8 frames `(num_frames, 3, …)`."""
        views = {"num_views": 1, "num_spatial_views": self.specification.num_spatial_views}
        known = {"do_sample_frames": False, "input_data_format": ChannelDimension.FIRST, "return_tensors": "pt"}
        batch = self.video_processor([clip], **views, **known)
        return batch["pixel_values_videos"].flatten(0, -5)
