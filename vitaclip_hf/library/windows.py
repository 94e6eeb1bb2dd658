"""Windows of a long video in one pass: every frame is decoded once, and memory does not grow with the length.

A window is a clip of some seconds. The next window begins `stride` seconds later, so that windows overlap. The frames
of a window are those on display at the centres of equal parts of it, as `sampling="uniform"` takes them of a whole
video. A frame that several windows need is converted and preprocessed once, and encoded once by a model that looks at
frames one by one. In a Vita-CLIP the frames of a window meet, so that it encodes every window.
"""

import math
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from PIL import Image

from ..loading.families import FrameEncoder
from ..model.decoding import DecodedFrame
from ..model.encoder import VideoEncoder
from ..model.sources import VideoDecodingError
from ..model.video_inputs import VideoReader, check_shape, video_from


MOMENT = 1e-6  # seconds; times that are closer count as equal
THUMBNAIL_HEIGHT = 120
MOST_BYTES = 32 << 20  # of pictures that wait to be made into model input together


@dataclass(eq=False)
class FrameInput:
    """A frame of windows: model input `(num_spatial_views, 3, height, width)`, and features, once they are made."""

    pixels: Any = None
    features: torch.Tensor | None = None


@dataclass
class VideoWindow:
    """
    A clip of a long video, ready for the model.

    Attributes:
        start, end (`float`): seconds.
        frames (`list[int]`): numbers of its frames.
        times (`list[float]`): when each of them begins to be shown.
        inputs (`list[FrameInput]`): its frames for the model. Windows share them.
        thumbnail (`np.ndarray` of shape `(height, width, 3)`, *optional*): its middle frame, small.
    """

    start: float
    end: float
    frames: list[int] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    inputs: list[FrameInput] = field(default_factory=list, repr=False)
    thumbnail: np.ndarray | None = field(default=None, repr=False)

    @property
    def pixels(self) -> torch.Tensor:
        """Model input `(num_spatial_views, num_frames, 3, height, width)`."""
        return torch.stack([frame.pixels for frame in self.inputs], dim=1)


@dataclass
class _OpenWindow:
    """A window whose frames are still being decoded, and the times of those that it lacks."""

    window: VideoWindow
    wanted: list[float]

    def wants(self, until: float) -> bool:
        return bool(self.wanted) and self.wanted[0] < until - MOMENT

    def take(self, frame: DecodedFrame, shared: FrameInput, until: float, thumbnail: bool) -> None:
        """Takes a frame as often as it is wanted before a moment."""
        while self.wants(until):
            del self.wanted[0]
            self.window.frames.append(frame.number)
            self.window.times.append(frame.time)
            self.window.inputs.append(shared)
            if thumbnail and self.window.thumbnail is None and len(self.window.inputs) > len(self.wanted):
                self.window.thumbnail = thumbnail_of(frame.rgb)


def thumbnail_of(picture: np.ndarray, height: int = THUMBNAIL_HEIGHT) -> np.ndarray:
    """A small copy of a picture `(height, width, 3)`."""
    width = max(round(height * picture.shape[1] / picture.shape[0]), 1)
    return np.asarray(Image.fromarray(np.ascontiguousarray(picture)).resize((width, height), Image.Resampling.BICUBIC))


def make_inputs(reader: VideoReader, waiting: list[tuple[FrameInput, np.ndarray]]) -> None:
    """Makes model input of all pictures that wait for it, at once."""
    if waiting:
        pictures = torch.from_numpy(np.stack([picture for _, picture in waiting])).permute(0, 3, 1, 2)
        # The processor of a model with a fixed number of frames takes no other.
        fixed = getattr(reader.video_processor, "fixed_frames", False)
        count = reader.specification.num_frames if fixed else len(waiting)
        pixels = reader.process(pictures[torch.arange(count).clamp(max=len(waiting) - 1)])
        for (frame, _), of_frame in zip(waiting, pixels.unbind(1), strict=False):
            frame.pixels = of_frame
        waiting.clear()


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

    Window i begins `i * stride` seconds after the first frame. The last one ends with the video and is shorter if need
    be. A video that is shorter than a window is one window, and so are the windows that see nothing but one held frame.

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
    check_shape(video)
    first = getattr(video.metadata, "start", 0.0)  # when the first frame is shown
    stated_end = None if video.metadata.duration is None else first + video.metadata.duration
    waiting: deque[_OpenWindow] = deque()
    number, covered_to, frame = 0, 0.0, None  # of the next window; where the windows that were begun end
    num_frames, pictures = reader.specification.num_frames, []
    for frame in video.frames():
        if stated_end is not None and frame.time > stated_end + stride / 2:
            stated_end = None  # the container was wrong
        while first + number * stride < frame.end - MOMENT and (stated_end is None or covered_to < stated_end - MOMENT):
            start = first + number * stride
            # Of windows that see this frame alone, the first one reaches to the end of the last.
            more = int((frame.end - start - window) / stride) if start > frame.time - MOMENT else 0
            number += max(more, 0)
            covered_to = first + number * stride + window
            covered_to = covered_to if stated_end is None else min(covered_to, stated_end)
            wanted = [start + (place + 0.5) * (covered_to - start) / num_frames for place in range(num_frames)]
            waiting.append(_OpenWindow(VideoWindow(start, covered_to), wanted))
            number += 1
        shared = None
        if any(opened.wants(frame.end) for opened in waiting):
            shared = FrameInput()
            pictures.append((shared, frame.rgb))
            for opened in waiting:
                opened.take(frame, shared, frame.end, thumbnails)
            if len(pictures) == num_frames or len(pictures) * frame.rgb.nbytes > MOST_BYTES:
                make_inputs(reader, pictures)
        while waiting and not waiting[0].wanted:
            make_inputs(reader, pictures)
            yield waiting.popleft().window
    if frame is None:
        return
    # The video is over. What its last window still wants is the last frame, as for a video shorter than a clip.
    seen_to = 0.0 if number == len(waiting) else min(first + (number - len(waiting) - 1) * stride + window, frame.end)
    for opened in waiting:
        if seen_to > frame.end - MOMENT or not (opened.window.frames or seen_to == 0):
            break
        if shared is None:
            pictures.append((shared := FrameInput(), frame.rgb))
        opened.take(frame, shared, math.inf, thumbnails)
        make_inputs(reader, pictures)
        opened.window.end = seen_to = min(opened.window.end, frame.end)
        yield opened.window


def read_clips(reader: VideoReader, source: Any, window: float | None, stride: float | None) -> Iterator[VideoWindow]:
    """The windows of a video, see [`read_windows`]; without a length, one that is the whole video in all its views."""
    if window is not None:
        yield from read_windows(reader, source, window, stride or window)
    else:
        pixels, metadata = reader.read(source)
        start = getattr(metadata, "start", 0.0)
        yield VideoWindow(start, start + (metadata.duration or 0.0), inputs=list(map(FrameInput, pixels.unbind(1))))


def window_features(encoder: VideoEncoder, windows: Sequence[VideoWindow]) -> torch.Tensor:
    """Features `(num_windows, num_spatial_views, num_features)` of windows, see [`VideoEncoder.video_features`]."""
    if not isinstance(encoder, FrameEncoder):
        return encoder.video_features(torch.stack([window.pixels for window in windows]))
    new = [*dict.fromkeys(frame for window in windows for frame in window.inputs if frame.features is None)]
    if new:
        features = encoder.frame_features(torch.cat([frame.pixels for frame in new]))
        for frame, of_frame in zip(new, features.unflatten(0, (len(new), -1)), strict=True):
            frame.features = of_frame
    of_windows = [torch.stack([frame.features for frame in window.inputs], dim=1) for window in windows]  # type: ignore[misc]
    return encoder.average(torch.stack(of_windows))


def embed_windows(
    encoder: VideoEncoder, windows: Iterable[VideoWindow], batch_size: int = 8
) -> Iterator[tuple[Any, torch.Tensor]]:
    """
    Windows with their features, batch by batch. Their pixels are dropped.

    Args:
        encoder ([`VideoEncoder`]): the model.
        windows: of [`read_windows`].
        batch_size (`int`, defaults to 8): windows of a forward pass.

    Yields:
        [`VideoWindow`], and a `torch.Tensor` of shape `(num_spatial_views, num_features)`, float32 on the CPU.

    Raises:
        VideoDecodingError: of `windows`, after all windows before it were embedded.
    """
    batch: list[VideoWindow] = []

    def embedded() -> Iterator[tuple[VideoWindow, torch.Tensor]]:
        if batch:
            for window, features in zip(batch, window_features(encoder, batch).float().cpu(), strict=True):
                window.inputs.clear()
                yield window, features
            batch.clear()

    try:
        for window in windows:
            batch.append(window)
            if len(batch) == batch_size:
                yield from embedded()
    except VideoDecodingError:
        yield from embedded()
        raise
    yield from embedded()
