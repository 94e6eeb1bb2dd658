"""One picture of an answer: the frames that were read, and the scores of the labels. Needs matplotlib."""

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text

from ..data.output_files import storable
from ..model.read_options import ReadOptions
from ..model.video_inputs import to_frames, video_from


# Inches.
WIDTH = 10.0
MARGIN = 0.45
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
WIDEST_LABEL = 0.45  # share of the width

# Okabe and Ito's blue, and a light grey-blue: they differ in lightness, so that all readers can tell them apart.
BEST, OTHER, TRACK = "#0072B2", "#A9BFD1", "#F0F2F5"
INK, QUIET = "#1B1F24", "#667080"
TITLE_SIZE, LABEL_SIZE, TIME_SIZE = 15, 13, 9.5
DOTS_PER_INCH = 160
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
        scores (`list[dict]`): `{"label": str, "score": float}`, as the pipelines return them, with `"cosine"` if known.
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
    if times is not None and len(times) != len(pictures):
        raise ValueError(f"`times` must have one entry for each frame, got {len(times)} for {len(pictures)} frames.")
    if not scores:
        raise ValueError("`scores` is empty; give at least one label with its score.")
    wrong = [row for row in scores if not 0 <= row["score"] <= 1 + ROUNDING]
    if wrong:
        raise ValueError(f"`scores` must lie in 0 … 1, got {wrong[0]['score']:.3g} for {wrong[0]['label'][:100]!r}.")
    ranked = sorted(scores, key=lambda row: -row["score"])

    page = Page()
    weights = ["normal" if note else "bold"] + ["normal"] * (len(ranked) - 1)
    widest = WIDEST_LABEL * (WIDTH - 2 * MARGIN)
    labels = [
        page.wrap(row["label"], widest, 2, LABEL_SIZE, weight) for row, weight in zip(ranked, weights, strict=True)
    ]
    label_width = max(page.width_of(label, LABEL_SIZE, weight) for label, weight in zip(labels, weights, strict=True))
    row_height = ROW_HEIGHT[max(label.count("\n") + 1 for label in labels)]
    columns, width, height = frame_grid(len(pictures), pictures.shape[2] / pictures.shape[1])
    rows = -(-len(pictures) // columns)
    stamp_height = FRAME_GAP if times is None else TIME_HEIGHT
    frames_top = MARGIN + (TITLE_HEIGHT if title else 0)
    note_top = frames_top + rows * (height + stamp_height) + GAP_ABOVE_SCORES
    bars_top = note_top + (ROW_HEIGHT[1] if note else 0)
    page.figure.set_size_inches(WIDTH, bars_top + len(ranked) * row_height + MARGIN - 0.1)

    page.title(title)
    stamps = [""] * len(pictures) if times is None else format_times(times)
    for index, (picture, stamp) in enumerate(zip(pictures, stamps, strict=True)):
        line_number, column = divmod(index, columns)
        left, top = MARGIN + column * (width + FRAME_GAP), frames_top + line_number * (height + stamp_height)
        axes = page.add_axes(left, top, width, height)
        axes.imshow(picture, aspect="auto", interpolation="lanczos")
        page.write(left + width / 2, top + height + 0.16, stamp, TIME_SIZE, QUIET, align="center")

    if note:
        line = page.wrap(note, WIDTH - 2 * MARGIN, 1, LABEL_SIZE, "bold")
        page.write(MARGIN, note_top + ROW_HEIGHT[1] / 2, line, LABEL_SIZE, INK, weight="bold")

    bars_left = MARGIN + label_width + COLUMN_GAP
    numbers_width = PERCENT_WIDTH + (COSINE_WIDTH if any("cosine" in row for row in ranked) else 0)
    axes = page.add_axes(
        bars_left, bars_top, WIDTH - MARGIN - numbers_width - bars_left, len(ranked) * row_height, label="scores"
    )
    axes.set(xlim=(0, 1), ylim=(len(ranked) - 0.5, -0.5))
    places, thickness = range(len(ranked)), BAR_HEIGHT / row_height
    axes.barh(places, 1, thickness, color=TRACK)
    axes.barh(
        places,
        [row["score"] for row in ranked],
        thickness,
        color=[OTHER if note else BEST] + [OTHER] * (len(ranked) - 1),
    )
    for place, (row, label, weight) in enumerate(zip(ranked, labels, weights, strict=True)):
        color = QUIET if place or note else INK
        middle = bars_top + (place + 0.5) * row_height
        percent_right = WIDTH - MARGIN - numbers_width + PERCENT_WIDTH
        page.write(MARGIN, middle, label, LABEL_SIZE, color, weight=weight)
        page.write(percent_right, middle, format_percent(row["score"]), LABEL_SIZE, color, align="right", weight=weight)
        if "cosine" in row:
            page.write(WIDTH - MARGIN, middle, f"cosine {row['cosine']:.2f}", TIME_SIZE, QUIET, align="right")
    return page.figure


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
    times = None if details["times"] is None else dict(zip(details["frames"], details["times"], strict=True))
    note = f"{details['answer']}: {details['reason']}" if "reason" in details else None
    stamps = None if times is None else [times[number] for number in numbers]
    return draw_answer(video_from(video, options).read(numbers), stamps, details["scores"], title, note)


def frame_grid(count: int, shape: float) -> tuple[int, float, float]:
    """
    How frames are laid out.

    Args:
        count: frames.
        shape: width of a frame by its height.

    Returns:
        Frames in a row, and the width and height of one in inches.
    """
    rows = -(-count // FRAMES_IN_A_ROW)
    columns = -(-count // rows)
    width = (WIDTH - 2 * MARGIN - (columns - 1) * FRAME_GAP) / columns
    width = min(width, HIGHEST_FRAME * shape)
    return columns, width, width / shape


def format_times(times: Sequence[float]) -> list[str]:
    """Times of frames: `"0.4 s"`, `"2:07"` from a minute on; with as many digits as tell neighbours apart."""
    gaps = [later - earlier for earlier, later in zip(times, times[1:], strict=False) if later > earlier]
    if max(times) < 60:
        digits = 1 if min(gaps, default=1) >= 0.2 else 2
        return [f"{time:.{digits}f} s" for time in times]
    digits = 0 if min(gaps, default=1) >= 2 else 1
    texts = []
    for time in times:
        minutes, seconds = divmod(round(time * 10**digits) / 10**digits, 60)
        clock = f"{int(minutes):d}" if max(times) < 3600 else f"{int(minutes) // 60}:{int(minutes) % 60:02d}"
        texts.append(f"{clock}:{seconds:0{3 + digits if digits else 2}.{digits}f}")
    return texts


def format_percent(score: float) -> str:
    """`"75.1%"`; what is not quite nothing, or not quite all, is not rounded to it."""
    if 0 < score < 0.0005:
        return "<0.1%"
    if 0.9995 <= score < 1:
        return ">99.9%"
    return f"{score:.1%}"


class Page:
    """A figure of fixed width on which things are placed in inches from the upper left corner."""

    def __init__(self):
        self.figure = Figure(figsize=(WIDTH, 1), dpi=DOTS_PER_INCH, facecolor="white")
        self.renderer = FigureCanvasAgg(self.figure).get_renderer()

    def add_axes(self, left: float, top: float, width: float, height: float, **kwargs: Any):
        page_width, page_height = self.figure.get_size_inches()
        place = (left / page_width, 1 - (top + height) / page_height, width / page_width, height / page_height)
        axes = self.figure.add_axes(place, **kwargs)
        axes.set_axis_off()
        return axes

    def write(self, left: float, middle: float, text: str, size: float, color: str, align="left", weight="normal"):
        """Capitals stand centred on `middle`, so that texts beside each other share a baseline."""
        page_width, page_height = self.figure.get_size_inches()
        one_line = "\n" not in text
        self.figure.text(
            left / page_width,
            1 - (middle + (CAPITAL_HEIGHT * size / 72 / 2 if one_line else 0)) / page_height,
            storable(text),
            size=size,
            color=color,
            weight=weight,
            ha=align,
            va="baseline" if one_line else "center",
            linespacing=1.1,
            parse_math=False,
        )

    def title(self, text: str | None) -> None:
        """A line at the top, if there is a title. The page's size must be set."""
        if text:
            line = self.wrap(text, WIDTH - 2 * MARGIN, 1, TITLE_SIZE, "bold")
            self.write(MARGIN, MARGIN + 0.12, line, TITLE_SIZE, INK, weight="bold")

    def width_of(self, text: str, size: float, weight: str) -> float:
        """In inches, of the longest line."""
        drawn = Text(0, 0, storable(text), size=size, weight=weight, figure=self.figure, parse_math=False)
        return drawn.get_window_extent(self.renderer).width / self.figure.dpi

    def wrap(self, text: str, width: float, lines: int, size: float, weight: str) -> str:
        """A text in at most so many lines of this width in inches, cut with an ellipsis."""
        rest = " ".join(text.split())
        wrapped: list[str] = []
        while rest:
            is_last = len(wrapped) == lines - 1
            taken = self._break(rest, width, size, weight)
            if is_last and taken < len(rest):
                taken = self._break(rest, width, size, weight, end="…")
                return "\n".join([*wrapped, rest[:taken].rstrip(" ,;:.") + "…"])
            wrapped.append(rest[:taken].rstrip())
            rest = rest[taken:].lstrip()
        return "\n".join(wrapped)

    def keep_end(self, text: str, width: float, size: float, weight: str) -> str:
        """A text in one line of this width in inches. Its beginning is cut off, since paths differ at their ends."""
        shorter = (f"…{text[start:]}" for start in range(1, len(text)))
        return next((line for line in (text, *shorter) if self.width_of(line, size, weight) <= width), "…")

    def _break(self, text: str, width: float, size: float, weight: str, end: str = "") -> int:
        """How many letters to take for a line: up to a space if there is one, at least one letter."""
        if self.width_of(text, size, weight) <= width:
            return len(text)
        fits = (n for n in range(len(text) - 1, 1, -1) if self.width_of(text[:n].rstrip() + end, size, weight) <= width)
        longest = next(fits, 1)
        space = text.rfind(" ", 0, longest + 1)
        return space if space > 0 else longest
