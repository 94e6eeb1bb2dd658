"""Timelines of long videos: scores of labels over time, and segments with a label."""

import math
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from ..model.encoder import VideoEncoder
from ..model.scorer import Scorer, checked
from ..model.sources import VideoDecodingError
from .timeline_files import Segment
from .windows import MOMENT, check_window, embed_windows, read_windows


CHANGE = 0.1  # seconds to which a change of labels is found


@dataclass(frozen=True)
class ScoredTime:
    """
    Scores of a part of a video: of a window, or of a cell between two window starts.

    Attributes:
        start, end (`float`): seconds.
        scores (`np.ndarray` of shape `(num_labels,)`): of each label, see [`VideoTimeline`].
        cosines (`np.ndarray` of shape `(num_labels,)`): of each label alone.
        frames (`list[int]`): numbers of the frames that were read.
        times (`list[float]`): when each of them is shown, in seconds.
        thumbnail (`np.ndarray` of shape `(height, width, 3)`, *optional*): a small picture of its middle.
    """

    start: float
    end: float
    scores: np.ndarray
    cosines: np.ndarray
    frames: list[int] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    thumbnail: np.ndarray | None = field(default=None, repr=False)


class VideoTimeline:
    """
    Scores labels over the time of videos.

    A score is the softmax over the labels (SigLIP: the sigmoid of each) within one window: it says nothing about "none
    of these", see [`ZeroShotVideoClassificationPipeline`]. Add a label for what else there is, or set `min_cosine`.

    Args:
        encoder ([`VideoEncoder`]): the model, for example `load_checkpoint(name).encoder()`.
        labels (`Sequence[str]`, *optional*): the labels to score; by default the classes of the checkpoint.
        templates (`str` or `Sequence[str]`, defaults to `"{}"`): sentences with `{}` for the label.
        window (`float`, defaults to 4): length of a window in seconds.
        stride (`float`, defaults to 2): seconds from one window to the next. Where windows overlap, their scores are
            averaged: scores near a cut, and of what is shorter than a window, are lower.
        high (`float`, defaults to 0.4): a segment needs this score somewhere.
        low (`float`, defaults to 0.2): a segment goes on while its score is at least this.
        min_length (`float`, defaults to 0): shortest segment, in seconds.
        min_cosine (`float`, defaults to -1): a label with a lower cosine is not shown there.
        batch_size (`int`, defaults to 8): windows of a forward pass.
        settings: fields of [`ReadOptions`], such as `max_seconds`, in place of the video processor's own. The decoder
            is PyAV.

    Raises:
        ValueError: labels that cannot be scored, or lengths and thresholds that make no sense.

    Example:

    ```python
    >>> from vitaclip_hf import load_checkpoint
    >>> from vitaclip_hf.library.timeline import VideoTimeline

    >>> encoder = load_checkpoint("examples/demo/checkpoint").encoder()  # doctest: +SKIP
    >>> timeline = VideoTimeline(encoder, ["rocket rising", "banana spinning"], window=2, stride=1)
    ... # doctest: +SKIP
    >>> for segment in timeline.segments(timeline.scores("long.mp4")):  # doctest: +SKIP
    ...     print(f"{segment.start:.1f} to {segment.end:.1f} s: {segment.label}")  # while the video is being read

    ```
    """

    def __init__(
        self,
        encoder: VideoEncoder,
        labels: Sequence[str] | None = None,
        templates: str | Sequence[str] = "{}",
        *,
        window: float = 4.0,
        stride: float = 2.0,
        high: float = 0.4,
        low: float = 0.2,
        min_length: float = 0.0,
        min_cosine: float = -1.0,
        batch_size: int = 8,
        **settings: Any,
    ):
        check_window(window, stride)
        if not 0 < low <= high <= 1:
            raise ValueError(f"`low` and `high` must lie in 0 … 1, `low` not above `high`; got {low:g} and {high:g}.")
        self.scorer, self.reader = Scorer(encoder, labels, templates), encoder.reader(**settings | {"decoder": "pyav"})
        self.labels = self.scorer.labels
        self.window, self.stride, self.batch_size = window, stride, batch_size
        self.high, self.low, self.min_length, self.min_cosine = high, low, min_length, min_cosine

    def scores(self, source: Any, *, thumbnails: bool = False) -> Iterator[ScoredTime]:
        """
        Scores of each window, while the video is read. Memory does not grow with the length of the video.

        Args:
            source, thumbnails: see [`read_windows`].

        Yields:
            [`ScoredTime`], in order of time.

        Raises:
            VideoDecodingError: the video cannot be read (when the iteration gets there).
        """
        windows = read_windows(self.reader, source, self.window, self.stride, thumbnails=thumbnails)
        for window, features in embed_windows(self.scorer.encoder, windows, self.batch_size):
            scores, cosines = (checked(values)[0].numpy() for values in self.scorer.compare(features[None]))
            yield ScoredTime(window.start, window.end, scores, cosines, window.frames, window.times, window.thumbnail)

    def cells(self, windows: Iterable[ScoredTime]) -> Iterator[ScoredTime]:
        """
        Scores over time without overlaps: between two window starts, the mean of the windows that lie over the middle.

        Args:
            windows: of [`scores`]; one begins every `stride` seconds.
        """
        over: deque[ScoredTime] = deque()
        first, number, end = 0.0, 0, 0.0

        def cells_until(limit: float) -> Iterator[ScoredTime]:
            nonlocal number
            while (start := first + number * self.stride) < limit - MOMENT:
                while over and over[0].end <= start + MOMENT:
                    over.popleft()
                alone = min(limit, over[0].end) if len(over) == 1 else start  # one window is one cell
                number = max(number + 1, math.floor((alone - first) / self.stride + MOMENT))
                until = min(first + number * self.stride, limit)
                middle = (start + until) / 2
                covering = [w for w in over if w.start <= middle + MOMENT and middle < w.end + MOMENT]
                nearest = min(covering, key=lambda w: abs((w.start + w.end) / 2 - middle))
                scores = np.mean([window.scores for window in covering], axis=0)
                cosines = np.mean([window.cosines for window in covering], axis=0)
                yield replace(nearest, start=start, end=until, scores=scores, cosines=cosines)

        for window in windows:
            if not over:
                first = window.start
            yield from cells_until(window.start)
            over.append(window)
            end = max(end, window.end)
        yield from cells_until(end)

    def segments(self, windows: Iterable[ScoredTime], source: Any = None) -> Iterator[Segment]:
        """
        Segments with a label, by their start, each as soon as it is known.

        Args:
            windows: of [`scores`].
            source (*optional*): the video again, for segments that do not overlap, see [`separate`].
        """
        cells = self.cells(windows)
        return self.merge(cells) if source is None else self.separate(cells, source)

    def merge(self, cells: Iterable[ScoredTime]) -> Iterator[Segment]:
        """
        Stretches with scores of at least `low` that reach `high` somewhere (hysteresis). They may overlap.

        Args:
            cells: of [`cells`].
        """
        opened: dict[int, list[tuple[float, float, float, float]]] = {}  # start, end, score and cosine of each cell
        closed: list[Segment] = []

        def close(index: int) -> None:
            start, end, scores, cosines = np.array(opened.pop(index)).T
            lengths = end - start
            if scores.max() >= self.high and lengths.sum() >= self.min_length - MOMENT:
                score, cosine = (float(np.average(values, weights=lengths)) for values in (scores, cosines))
                closed.append(Segment(float(start[0]), float(end[-1]), self.labels[index], score, cosine))

        def known() -> Iterator[Segment]:
            first = min((cells_of_label[0][0] for cells_of_label in opened.values()), default=math.inf)
            closed.sort(key=lambda segment: (segment.start, segment.end))
            while closed and closed[0].start <= first:
                yield closed.pop(0)

        for cell in cells:
            present = np.flatnonzero((cell.scores >= self.low) & (cell.cosines >= self.min_cosine)).tolist()
            for index in opened.keys() - present:
                close(index)
            for index in present:
                cells_of_label = opened.setdefault(index, [])
                cells_of_label.append((cell.start, cell.end, cell.scores[index], cell.cosines[index]))
            yield from known()
        for index in list(opened):
            close(index)
        yield from known()

    def separate(self, cells: Iterable[ScoredTime], source: Any) -> Iterator[Segment]:
        """
        Segments with one label at a time, see [`one_label`]. Where one follows another, the change is looked for again
        in clips of half a second, to a tenth of a second.

        Args:
            cells: of [`cells`].
            source: the video, from which a few more frames are read at each change.
        """
        video = self.reader.open(source)
        times: dict[int, float] = {}  # of the frames that were read, by number
        last: Segment | None = None
        shortest = max(self.min_length, CHANGE) - MOMENT  # what is left of a segment may be less

        def noted() -> Iterator[ScoredTime]:
            for cell in cells:
                times.update(zip(cell.frames, cell.times, strict=True))
                yield cell

        for segment in self.merge(self.one_label(noted())):
            if last is not None:
                # Elsewhere (AVI, MPEG-TS) each look would decode the whole video.
                if segment.start - last.end < MOMENT and getattr(video.metadata, "seeks", True):
                    change = self._change(video, last, segment, times)
                    last, segment = replace(last, end=change), replace(segment, start=change)
                if last.end - last.start >= shortest:
                    yield last
            last = segment
        if last is not None and last.end - last.start >= shortest:
            yield last

    def one_label(self, cells: Iterable[ScoredTime]) -> Iterator[ScoredTime]:
        """
        The same cells with the score of one label each, the others 0: Viterbi's path. A label gives way to another
        where the other's scores are 1.6 (the root of e) times as high for the length of a window.

        Args:
            cells: of [`cells`]. Each is decided when four windows behind it are known.
        """
        price, numbers = self.window / self.stride / 2, np.arange(len(self.labels))
        totals = np.zeros(len(numbers))  # of the best path that ends with each label
        recent: deque[tuple[ScoredTime, np.ndarray]] = deque()  # a cell, and the label before it on each of these paths

        def decided() -> ScoredTime:
            label = totals.argmax()
            for _, before in list(recent)[:0:-1]:
                label = before[label]
            cell, _ = recent.popleft()
            return replace(cell, scores=np.where(numbers == label, cell.scores, 0))

        for cell in cells:
            changed = totals.max() - price
            recent.append((cell, np.where(totals >= changed, numbers, totals.argmax())))
            shown = np.where(cell.cosines >= self.min_cosine, cell.scores, 0)
            totals = np.maximum(totals, changed) + np.log(shown.clip(1e-6))
            if len(recent) > 8 * price:
                yield decided()
        while recent:
            yield decided()

    def _change(self, video: Any, before: Segment, after: Segment, times: dict[int, float]) -> float:
        """When `after` scores higher than `before`, by halving the window around the time where they meet."""
        low, high = max(before.start, after.start - self.window / 2), min(after.end, before.end + self.window / 2)
        one, other = (self.labels.index(segment.label) for segment in (before, after))
        numbers, known = zip(*sorted(times.items()), strict=True)
        clip, change = np.linspace(-0.25, 0.25, self.reader.specification.num_frames), after.start
        while high - low > CHANGE:
            middle = (low + high) / 2
            try:
                frames = video.read(np.interp(middle + clip, known, numbers).astype(int).tolist())
            except VideoDecodingError:  # the time is up, or the file is damaged there
                break
            scores = self.scorer.score(self.reader.process(frames)[None]).scores[0]
            low, high = (middle, high) if scores[one] >= scores[other] else (low, middle)
            change = (low + high) / 2
        return change


class Thumbnails:
    """
    A few pictures spread evenly over a video of unknown length, in constant memory.

    Args:
        count (`int`): how many to keep at least, once there were as many.
    """

    def __init__(self, count: int = 10):
        self._count, self._every, self._seen = count, 1, 0
        self._pictures: list[tuple[float, np.ndarray]] = []

    def add(self, time: float, picture: np.ndarray) -> None:
        if self._seen % self._every == 0:
            self._pictures.append((time, picture))
        if len(self._pictures) > 4 * self._count:
            self._pictures = self._pictures[::2]
            self._every *= 2
        self._seen += 1

    def nearest(self, times: Sequence[float]) -> list[tuple[float, np.ndarray]]:
        """For each of some times, the picture that is nearest, with its own time."""
        pictures = self._pictures
        return [min(pictures, key=lambda timed: abs(timed[0] - time)) for time in times] if pictures else []


__all__ = ["ScoredTime", "Segment", "Thumbnails", "VideoTimeline"]
