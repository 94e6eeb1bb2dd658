"""What users give as a video, told apart: encoded files, arrays of frames, lists of images; and batches of them."""

from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import torch
from PIL import Image
from transformers.image_utils import ChannelDimension, load_image
from transformers.video_utils import VideoMetadata

from .video_decoding import Video, open_video


class VideoOfFrames(Video):
    """A video whose frames are in memory already.

    Args:
        frames (`torch.Tensor` of shape `(num_frames, 3, height, width)`): the frames.
        metadata: what is known beside the frames, such as `fps`.
    """

    def __init__(self, frames: torch.Tensor, metadata: VideoMetadata | dict | None = None):
        about = VideoMetadata(**({"total_num_frames": len(frames)} | dict(metadata or {})))
        about.total_num_frames, about.height, about.width = len(frames), *frames.shape[-2:]
        super().__init__("frames in memory", about, max_bytes=None)
        self._frames = frames

    def _decode(self, numbers: list[int]) -> torch.Tensor:
        return self._frames[[number for number in numbers if number < len(self._frames)]]


def video_from(
    source: Any,
    decoder: str = "auto",
    metadata: VideoMetadata | dict | None = None,
    layout: str | ChannelDimension | None = None,
    scale: bool = True,
) -> Video:
    """
    Any single video as a [`Video`].

    Args:
        source: path, URL, bytes, file object, array or tensor of frames, or a list of images, arrays or image files.
        decoder (`str`, defaults to `"auto"`): of encoded videos, see [`decode_video`].
        metadata: what is known of frames in memory.
        layout, scale: of frames in memory, see [`to_frames`].

    Raises:
        VideoDecodingError: a source that cannot be read.
        TypeError, ValueError: frames that are no pictures.
    """
    return (
        open_video(source, decoder) if is_encoded(source) else VideoOfFrames(to_frames(source, layout, scale), metadata)
    )


def is_encoded(source) -> bool:
    """Whether the decoder has to read it: a path, a URL, bytes or a file object."""
    return isinstance(source, (str, Path, bytes, bytearray, memoryview)) or callable(getattr(source, "read", None))


def is_list_of_image_files(item) -> bool:
    """Whether these are the frames of one video as paths or URLs of images, told by their extensions."""
    return (
        isinstance(item, (list, tuple))
        and len(item) > 0
        and all(isinstance(part, (str, Path)) for part in item)
        and all(Path(urlsplit(str(part)).path).suffix.lower() in Image.registered_extensions() for part in item)
        and not any(Path(urlsplit(str(part)).path).suffix.lower() in (".gif", ".mpg", ".mpeg") for part in item)
    )


def is_frame(item) -> bool:
    return isinstance(item, Image.Image) or (isinstance(item, (np.ndarray, torch.Tensor)) and item.ndim in (2, 3))


def is_single_video(videos) -> bool:
    """Whether this is one video: an encoded one, an array `[T, …]`, or a list of frames."""
    if is_encoded(videos):
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
    raise TypeError(
        "Expected a video or a list of videos: paths, URLs, bytes, file objects, arrays [T, H, W, 3], or lists of "
        f"frames; got {_describe(videos)}."
    )


def _videos_of(item) -> list:
    """An item of a batch: a video, or a nested list of videos."""
    if is_single_video(item) or is_list_of_image_files(item):
        return [item]
    if isinstance(item, (list, tuple)) and item and all(is_single_video(part) for part in item):
        return list(item)
    raise TypeError(f"Expected a video within the list of videos, got {_describe(item)}.")


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
        frames = [_image_to_frame(frame, layout, scale) for frame in video]
        if len({frame.shape for frame in frames}) > 1:
            sizes = ", ".join(sorted({f"{frame.shape[-2]} x {frame.shape[-1]}" for frame in frames}))
            raise ValueError(f"All frames of a video must have one size, got {sizes}.")
        return torch.stack(frames)
    return _to_rgb(_to_tensor(video), layout, scale)


def _to_tensor(array: np.ndarray | torch.Tensor) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(array)) if isinstance(array, np.ndarray) else array.detach()


def _image_to_frame(image, layout, scale: bool) -> torch.Tensor:
    if isinstance(image, (str, Path)):
        image = load_image(str(image))
    if isinstance(image, Image.Image):
        return torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1)
    array = _to_tensor(image)
    if array.ndim == 2:
        array, layout = array[None], ChannelDimension.FIRST
    return _to_rgb(array[None], layout, scale)[0]


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
    if frames.dtype == torch.bool:
        raise TypeError("Frames of booleans are no pictures; give uint8, or floats in 0 … 1.")
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
