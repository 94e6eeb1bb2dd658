"""Windows of a long video in one pass: every frame is decoded once, and memory does not grow with the length.

A window is a clip of some seconds. The next window begins `stride` seconds later, so that windows overlap. The frames
of a window are those on display at the centres of equal parts of it, as `sampling="uniform"` takes them of a whole
video. A frame that several windows need is converted and preprocessed once.
"""

import math
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from PIL import Image

from ..model.decoding import DecodedFrame, VideoDecodingError
from ..model.encoder import VideoEncoder
from ..model.video_inputs import video_from
from ..model.video_reader import VideoReader


MOMENT = 1e-6  # seconds; times that are closer count as equal
THUMBNAIL_HEIGHT = 120


@dataclass
class VideoWindow:
    """
    A clip of a long video, ready for the model.

    Attributes:
        start, end (`float`): seconds.
        frames (`list[int]`): numbers of its frames.
        times (`list[float]`): when each of them begins to be shown.
        pixels (`torch.Tensor` of shape `(num_spatial_views, num_frames, 3, height, width)`): model input.
        thumbnail (`np.ndarray` of shape `(height, width, 3)`, *optional*): its middle frame, small.
    """

    start: float
    end: float
    frames: list[int] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    pixels: torch.Tensor | None = field(default=None, repr=False)
    thumbnail: np.ndarray | None = field(default=None, repr=False)


class _OpenWindow:
    """A window whose frames are still being decoded."""

    def __init__(self, start: float, end: float, num_frames: int, with_thumbnail: bool):
        self.window = VideoWindow(start, end)
        self._wanted = [start + (place + 0.5) * (end - start) / num_frames for place in range(num_frames)]
        self._pixels: list[torch.Tensor] = []
        self._with_thumbnail = with_thumbnail

    @property
    def full(self) -> bool:
        return len(self._pixels) == len(self._wanted)

    def take(self, frame: DecodedFrame, pixels_of: Any, until: float) -> None:
        """Takes a frame as often as it is wanted before a moment."""
        while not self.full and self._wanted[len(self._pixels)] < until - MOMENT:
            self.window.frames.append(frame.number)
            self.window.times.append(frame.time)
            self._pixels.append(pixels_of(frame))
            if self._with_thumbnail and len(self._pixels) == len(self._wanted) // 2 + 1:
                self.window.thumbnail = thumbnail_of(frame.rgb)

    def finished(self) -> VideoWindow:
        self.window.pixels = torch.stack(self._pixels, dim=1)
        return self.window


def thumbnail_of(picture: np.ndarray, height: int = THUMBNAIL_HEIGHT) -> np.ndarray:
    """A small copy of a picture `(height, width, 3)`."""
    width = max(round(height * picture.shape[1] / picture.shape[0]), 1)
    return np.asarray(Image.fromarray(np.ascontiguousarray(picture)).resize((width, height), Image.Resampling.BICUBIC))


class _FramePixels:
    """Model input of single frames; of a frame that several windows take, it is made once."""

    def __init__(self, reader: VideoReader):
        self._reader = reader
        self._latest: tuple[int, torch.Tensor] | None = None

    def __call__(self, frame: DecodedFrame) -> torch.Tensor:
        if self._latest is None or self._latest[0] != frame.number:
            clip = torch.from_numpy(np.ascontiguousarray(frame.rgb)).permute(2, 0, 1)[None]
            self._latest = frame.number, self._reader.process(clip)[:, 0]  # [spatial views, 3, H, W]
        return self._latest[1]


def check_window(window: float, stride: float) -> None:
    """
    Raises:
        ValueError: lengths that are not positive, or time between windows that no window sees.
    """
    if not (window > 0 and math.isfinite(window)):
        raise ValueError(f"`window` must be a positive number of seconds, got {window}.")
    if not 0 < stride <= window:
        raise ValueError(f"`stride` must be above 0 and at most `window`, {window:g} s, got {stride:g}.")


def read_windows(
    reader: VideoReader, source: Any, window: float = 4.0, stride: float = 2.0, *, thumbnails: bool = False
) -> Iterator[VideoWindow]:
    """
    The windows of a video, in order, while it is decoded.

    Window i begins at `i * stride` seconds. The last one ends with the video and is shorter if need be. A video that
    is shorter than a window is one window.

    Args:
        reader ([`VideoReader`]): makes model input of frames; its `num_frames` are read of each window. `max_seconds`
            counts decoding only, not what is done between two windows. The decoder is PyAV.
        source: path, URL, bytes, file object, `{"path": …, "bytes": …}`, or an opened [`Video`].
        window, stride (`float`): seconds.
        thumbnails (`bool`, defaults to `False`): keep a small picture of each window.

    Yields:
        [`VideoWindow`]

    Raises:
        VideoDecodingError: the video cannot be read (when the iteration gets there).
        ValueError: lengths that are not positive, or a stride longer than the window.
    """
    check_window(window, stride)
    video = video_from(source, replace(reader.options, decoder="pyav"))
    stated_end = video.metadata.duration
    pixels_of = _FramePixels(reader)
    waiting: deque[_OpenWindow] = deque()
    number, covered_to, frame = 0, 0.0, None  # of the next window; where the windows that were begun end
    for frame in video.frames():
        if stated_end is not None and frame.time > stated_end + stride / 2:
            stated_end = None  # the container was wrong
        while number * stride < frame.end - MOMENT and (stated_end is None or covered_to < stated_end - MOMENT):
            start = number * stride
            covered_to = start + window if stated_end is None else min(start + window, stated_end)
            waiting.append(_OpenWindow(start, covered_to, reader.specification.num_frames, thumbnails))
            number += 1
        for opened in waiting:
            opened.take(frame, pixels_of, frame.end)
        while waiting and waiting[0].full:
            yield waiting.popleft().finished()
    if frame is None:
        return
    # The video is over. What its last window still wants is the last frame, as for a video shorter than a clip.
    seen_to = 0.0 if number == len(waiting) else min((number - len(waiting) - 1) * stride + window, frame.end)
    for opened in waiting:
        if seen_to > frame.end - MOMENT or not (opened.window.frames or seen_to == 0):
            break
        opened.take(frame, pixels_of, math.inf)
        opened.window.end = seen_to = min(opened.window.end, frame.end)
        yield opened.finished()


def read_clips(reader: VideoReader, source: Any, window: float | None, stride: float | None) -> Iterator[VideoWindow]:
    """The windows of a video, see [`read_windows`]; without a length, one that is the whole video in all its views."""
    if window is not None:
        yield from read_windows(reader, source, window, stride or window)
    else:
        pixels, metadata = reader.read(source)
        yield VideoWindow(0.0, metadata.duration or 0.0, pixels=pixels)


def embed_windows(
    encoder: VideoEncoder, windows: Iterable[VideoWindow], batch_size: int = 8
) -> Iterator[tuple[Any, torch.Tensor]]:
    """
    Windows with their normalised features, batch by batch. Their pixels are dropped.

    Args:
        encoder ([`VideoEncoder`]): the model.
        windows: of [`read_windows`].
        batch_size (`int`, defaults to 8): windows of a forward pass.

    Yields:
        [`VideoWindow`], and a `torch.Tensor` of shape `(num_spatial_views, projection_dim)`, float32 on the CPU.

    Raises:
        VideoDecodingError: of `windows`, after all windows before it were embedded.
    """
    batch: list[VideoWindow] = []

    def embedded() -> Iterator[tuple[VideoWindow, torch.Tensor]]:
        pixels = torch.stack([window.pixels for window in batch if window.pixels is not None])
        features = encoder.embed_videos(pixels).float().cpu()
        for window, row in zip(batch, features, strict=True):
            window.pixels = None
            yield window, row

    failure = None
    try:
        for window in windows:
            batch.append(window)
            if len(batch) == batch_size:
                yield from embedded()
                batch = []
    except VideoDecodingError as error:  # what was read before it is not lost
        failure = error
    if batch:
        yield from embedded()
    if failure is not None:
        raise failure
