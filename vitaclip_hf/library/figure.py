"""A picture of an answer: the frames that were read, and the scores of the labels. Needs matplotlib."""

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text

from ..charts import BEST, DOTS_PER_INCH, INK, OTHER, QUIET, TRACK
from ..model.read_options import ReadOptions
from ..model.shown_names import one_line
from ..model.video_inputs import to_frames, video_from


# Inches.
WIDTH = 10.0
MARGIN = 0.45
INNER_WIDTH = WIDTH - 2 * MARGIN
FRAME_GAP = 0.08
FRAMES_IN_A_ROW = 8
HIGHEST_FRAME = 2.4
TIME_HEIGHT = 0.4
TITLE_HEIGHT = 0.52
GAP_ABOVE_SCORES = 0.12
ROW_HEIGHT = {1: 0.42, 2: 0.54}  # by lines of the longest label
BAR_HEIGHT = 0.19
COLUMN_GAP = 0.25
PERCENT_WIDTH = 0.98
COSINE_WIDTH = 1.0
WIDEST_LABEL = 0.45 * INNER_WIDTH

TITLE_SIZE, LABEL_SIZE, TIME_SIZE = 15, 13, 9.5
ROUNDING = 1e-4  # of a softmax in float32
CAPITAL_HEIGHT = 0.73  # of the size of the letters


def draw_answer(
    frames: Any,
    times: Sequence[float] | None,
    scores: Sequence[Mapping[str, Any]],
    title: str | None = None,
    note: str | None = None,
) -> Figure:
    """
    Draws the frames that were read, with their times, above a bar for the score of each label.

    Cosines are written beside the scores where they are given.

    Fonts are those of matplotlib's settings: set `matplotlib.rcParams["font.family"]` for labels in other scripts.

    Args:
        frames (`torch.Tensor` of shape `(num_frames, 3, height, width)`):
            The frames, as [`Video.read`] gives them. An array or a list of images will do.
        times (`Sequence[float]`, *optional*): seconds from the beginning of the video, one for each frame.
        scores (`list[dict]`): `{"label": str, "score": float}`, as the pipeline returns them, with `"cosine"` if known.
            The best is drawn on top.
        title (`str`, *optional*): a line above the frames.
        note (`str`, *optional*): a line above the scores that says why no label is the answer. No bar is stressed then.

    Returns:
        `matplotlib.figure.Figure`: an axes for each frame and one for the bars; `figure.savefig("answer.png")`.

    Raises:
        ValueError: no scores, a score outside 0 … 1, or another number of times than of frames.

    Example:

    ```python
    >>> from vitaclip_hf import open_video
    >>> from vitaclip_hf.library.figure import draw_answer

    >>> video = open_video("clip.mp4")  # doctest: +SKIP
    >>> frames = video.read(range(0, 32, 4))  # doctest: +SKIP
    >>> figure = draw_answer(frames, video.metadata.timestamps, [{"label": "yoga", "score": 0.9}])  # doctest: +SKIP
    >>> figure.savefig("answer.png")  # doctest: +SKIP

    ```
    """
    pictures = to_frames(frames).permute(0, 2, 3, 1).numpy()
    if not scores or not all(0 <= row["score"] <= 1 + ROUNDING for row in scores):
        raise ValueError(f"`scores` must be in 0 … 1, for at least one label; got {list(scores)!r:.200}.")
    ranked = sorted(scores, key=lambda row: -row["score"])

    page = Page(title)
    columns = columns_of(len(pictures))
    shape = pictures.shape[2] / pictures.shape[1]
    width = min((INNER_WIDTH + FRAME_GAP) / columns - FRAME_GAP, HIGHEST_FRAME * shape)
    stamps = [""] * len(pictures) if times is None else format_times(times)
    row_height = width / shape + (FRAME_GAP if times is None else TIME_HEIGHT)
    for index, (picture, stamp) in enumerate(zip(pictures, stamps, strict=True)):
        line_number, column = divmod(index, columns)
        left, top = MARGIN + column * (width + FRAME_GAP), page.top + line_number * row_height
        page.add_picture(picture, left, top, width, width / shape)
        page.write(left + width / 2, top + width / shape + 0.16, stamp, ha="center")
    page.top += -(-len(pictures) // columns) * row_height + GAP_ABOVE_SCORES
    if note:
        line = page.wrap(note, INNER_WIDTH, 1, LABEL_SIZE, "bold")
        page.write(MARGIN, page.top + ROW_HEIGHT[1] / 2, line, LABEL_SIZE, INK, weight="bold")
        page.top += ROW_HEIGHT[1]

    weights = ["normal" if note else "bold"] + ["normal"] * (len(ranked) - 1)
    labels = [
        page.wrap(row["label"], WIDEST_LABEL, 2, LABEL_SIZE, weight)
        for row, weight in zip(ranked, weights, strict=True)
    ]
    left = MARGIN + COLUMN_GAP + max(map(page.width_of, labels, [LABEL_SIZE] * len(labels), weights))
    right = WIDTH - MARGIN - PERCENT_WIDTH - (COSINE_WIDTH if any("cosine" in row for row in ranked) else 0)
    row_height = ROW_HEIGHT[max(label.count("\n") + 1 for label in labels)]
    for place, (row, label, weight) in enumerate(zip(ranked, labels, weights, strict=True)):
        middle = page.top + (place + 0.5) * row_height
        color, bar = (QUIET, OTHER) if place or note else (INK, BEST)
        page.axes.barh(middle, right - left, BAR_HEIGHT, left, color=TRACK)
        page.axes.barh(middle, row["score"] * (right - left), BAR_HEIGHT, left, color=bar)
        page.write(MARGIN, middle, label, LABEL_SIZE, color, weight=weight)
        percent = format_percent(row["score"])
        page.write(right + PERCENT_WIDTH, middle, percent, LABEL_SIZE, color, weight=weight, ha="right")
        if "cosine" in row:
            page.write(WIDTH - MARGIN, middle, f"cosine {row['cosine']:.2f}", ha="right")
    return page.finish(page.top + len(ranked) * row_height + MARGIN - 0.1)


def draw_details(
    video: Any, details: Mapping[str, Any], title: str | None = None, options: ReadOptions | None = None
) -> Figure:
    """
    As [`draw_answer`], for an answer of the zero-shot pipeline. The frames are read again.

    Args:
        video: the video, as the pipeline takes it.
        details (`dict`): its answer with `return_details=True`.
        title (`str`, *optional*): a line above the frames.
        options ([`ReadOptions`], *optional*): how the video is opened and decoded.

    Raises:
        VideoDecodingError: the video cannot be read any more.
    """
    numbers = sorted(set(details["frames"]))
    times = dict(zip(details["frames"], details["times"] or (), strict=False))
    note = f"{details['answer']}: {details['reason']}" if "reason" in details else None
    stamps = [times[number] for number in numbers] if times else None
    return draw_answer(video_from(video, options).read(numbers), stamps, details["scores"], title, note)


def columns_of(count: int) -> int:
    """Frames in a row, so that all rows are about equally long."""
    return -(-count // -(-count // FRAMES_IN_A_ROW))


def format_times(times: Sequence[float]) -> list[str]:
    """Times of frames: `"0.4 s"`, `"2:07"` from a minute on; with as many digits as tell neighbours apart."""
    nearest = min((b - a for a, b in zip(times, times[1:], strict=False) if b > a), default=1)
    digits = 1 if nearest >= 0.2 else 2 if nearest >= 0.02 else 3
    if max(times) < 60:
        return [f"{time:.{digits}f} s" for time in times]
    digits = 0 if nearest >= 2 else digits
    texts = []
    for time in times:
        minutes, seconds = divmod(round(time * 10**digits) / 10**digits, 60)
        clock = f"{int(minutes):d}" if max(times) < 3600 else f"{int(minutes) // 60}:{int(minutes) % 60:02d}"
        texts.append(f"{clock}:{seconds:0{3 + digits if digits else 2}.{digits}f}")
    return texts


def format_percent(score: float) -> str:
    """`"75.1%"`; a score near 0 or 1 is `"<0.1%"` or `">99.9%"`."""
    if 0 < score < 0.0005:
        return "<0.1%"
    if 0.9995 <= score < 1:
        return ">99.9%"
    return f"{score:.1%}"


class Page:
    """
    A figure of fixed width with one axes, whose units are inches from the upper left corner.

    Attributes:
        top (`float`): where the next row begins.
    """

    def __init__(self, title: str | None = None):
        self.figure = Figure(figsize=(WIDTH, 1), dpi=DOTS_PER_INCH, facecolor="white")
        self._renderer = FigureCanvasAgg(self.figure).get_renderer()
        self.axes = self.figure.add_axes((0, 0, 1, 1))
        self.axes.set_axis_off()
        self.top = MARGIN
        if title:
            line = self.wrap(title, INNER_WIDTH, 1, TITLE_SIZE, "bold")
            self.write(MARGIN, MARGIN + 0.12, line, TITLE_SIZE, INK, weight="bold")
            self.top += TITLE_HEIGHT

    def finish(self, height: float) -> Figure:
        """The figure, cut at this height."""
        self.figure.set_size_inches(WIDTH, height)
        self.axes.set(xlim=(0, WIDTH), ylim=(height, 0))
        return self.figure

    def add_picture(self, picture: np.ndarray, left: float, top: float, width: float, height: float) -> None:
        extent = (left, left + width, top + height, top)
        self.axes.imshow(picture, extent=extent, aspect="auto", interpolation="lanczos")

    def write(
        self, left: float, middle: float, text: str, size: float = TIME_SIZE, color: str = QUIET, **style: Any
    ) -> None:
        """Capitals stand centred on `middle`, so that texts beside each other share a baseline."""
        if "\n" in text:
            style |= {"va": "center", "linespacing": 1.1}
        else:
            middle += CAPITAL_HEIGHT * size / 72 / 2
        self.axes.text(left, middle, text, size=size, color=color, parse_math=False, **style)

    def width_of(self, text: str, size: float = TIME_SIZE, weight: str = "normal") -> float:
        """In inches, of the longest line."""
        drawn = Text(0, 0, text, size=size, weight=weight, figure=self.figure, parse_math=False)
        return drawn.get_window_extent(self._renderer).width / self.figure.dpi

    def wrap(self, text: str, width: float, most_lines: int, size: float, weight: str = "normal") -> str:
        """A text in lines of at most this width in inches, cut with an ellipsis; control characters are escaped."""
        text = one_line(text)
        columns = len(text)
        while True:
            lines = textwrap.wrap(text, columns)
            if len(lines) > most_lines:
                lines = lines[:most_lines]
                lines[-1] = lines[-1][: columns - 1].rstrip(" ,;:.") + "…"
            wrapped = "\n".join(lines)
            too_wide = self.width_of(wrapped, size, weight) / width
            if too_wide <= 1:
                return wrapped
            columns = min(columns - 1, int(1.2 * columns / too_wide))

    def keep_end(self, text: str, width: float, size: float) -> str:
        """A text in one line of this width in inches. Its beginning is cut off, since paths differ at their ends."""
        text = one_line(text)
        shorter = (f"…{text[start:]}" for start in range(1, len(text)))
        return next((line for line in (text, *shorter) if self.width_of(line, size) <= width), "…")
