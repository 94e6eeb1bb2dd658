"""One picture of a timeline: thumbnails along the time axis, and a lane for each label. Needs matplotlib."""

import itertools
from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from .figure import (
    BEST,
    COLUMN_GAP,
    FRAME_GAP,
    INK,
    LABEL_SIZE,
    MARGIN,
    OTHER,
    QUIET,
    TIME_SIZE,
    TITLE_HEIGHT,
    TRACK,
    WIDEST_LABEL,
    WIDTH,
    Page,
    format_times,
)
from .timeline import ScoredTime, Segment, Thumbnails


LANE_HEIGHT = 0.46  # inches
LANE_BAR = 0.3
MOST_LANES = 12
MOST_THUMBNAILS = 10
NOTE_HEIGHT = 0.34
AXIS_HEIGHT = 0.36
UNDERLINE = 0.07  # of a lane
TICK_STEPS = (*(0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30), *(60, 120, 300, 600, 900, 1800, 3600, 7200, 10800))  # seconds


def draw_timeline(
    segments: Sequence[Segment],
    labels: Sequence[str],
    cells: Sequence[ScoredTime],
    thumbnails: Thumbnails,
    title: str | None = None,
) -> Figure:
    """
    Draws what a video shows over time.

    A lane shows a label's score as a curve, dark within its segments, which are underlined. Labels without a segment
    have no lane; of many, those with most time are drawn.

    Args:
        segments ([`Segment`]): the segments.
        labels (`Sequence[str]`): in the order of the scores.
        cells ([`ScoredTime`]): of [`VideoTimeline.cells`]; their thumbnails are not needed.
        thumbnails ([`Thumbnails`]): pictures of the video.
        title (`str`, *optional*): a line above them.

    Returns:
        `matplotlib.figure.Figure`

    Raises:
        ValueError: there are no scores.
    """
    if not cells:
        raise ValueError("`cells` has no scores; give those of a video.")
    duration = cells[-1].end
    length: dict[str, float] = {}
    for segment in sorted(segments, key=lambda segment: segment.start):
        length[segment.label] = length.get(segment.label, 0.0) + segment.end - segment.start
    shown = sorted(length, key=lambda label: -length[label])[:MOST_LANES]
    shown = [label for label in length if label in shown]  # by first appearance
    left_out = len(length) - len(shown)

    page = Page()
    widest = WIDEST_LABEL * 0.75 * (WIDTH - 2 * MARGIN)
    names = [page.wrap(label, widest, 1, LABEL_SIZE, "normal") for label in shown]
    names_width = max((page.width_of(name, LABEL_SIZE, "normal") for name in names), default=0.0)
    left = MARGIN + (names_width + COLUMN_GAP if names else 0)
    width = WIDTH - MARGIN - left
    places, pictures = thumbnail_row(thumbnails, duration, width)
    row_height = (width - (len(pictures) - 1) * FRAME_GAP) / len(pictures) * shape_of(pictures) if pictures else 0.0
    pictures_top = MARGIN + (TITLE_HEIGHT if title else 0)
    lanes_top = pictures_top + row_height + 0.22
    lanes_height = max(len(shown), 1) * LANE_HEIGHT
    note = f"and {left_out} more labels" if left_out else "" if shown else "no segment reaches the threshold"
    page.figure.set_size_inches(
        WIDTH, lanes_top + lanes_height + AXIS_HEIGHT + (NOTE_HEIGHT if note else 0) + MARGIN - 0.15
    )

    page.title(title)
    thumbnail_width = (width - (len(pictures) - 1) * FRAME_GAP) / max(len(pictures), 1)
    for place, picture in zip(places, pictures, strict=True):
        axes = page.add_axes(left + place, pictures_top, thumbnail_width, row_height)
        axes.imshow(picture, aspect="auto", interpolation="lanczos")

    axes = page.add_axes(left, lanes_top, width, lanes_height, label="lanes")
    axes.set(xlim=(0, duration), ylim=(max(len(shown), 1) - 0.5, -0.5))
    bar = LANE_BAR / LANE_HEIGHT
    edges = [cell.start for cell in cells] + [duration]
    for lane, label in enumerate(shown):
        axes.barh(lane, duration, bar, color=TRACK)
        spans = [(segment.start, segment.end) for segment in segments if segment.label == label]
        bottom = lane + bar / 2
        scores = np.array([float(cell.scores[labels.index(label)]) for cell in cells])
        inside = [any(start <= (cell.start + cell.end) / 2 <= end for start, end in spans) for cell in cells]
        for shown_scores, color in ((scores, OTHER), (scores * inside, BEST)):
            axes.stairs(bottom - bar * shown_scores, edges, baseline=bottom, fill=True, color=color)
        for start, end in spans:
            axes.barh(bottom + UNDERLINE, end - start, UNDERLINE, left=start, color=BEST)
        page.write(MARGIN, lanes_top + (lane + 0.5) * LANE_HEIGHT, names[lane], LABEL_SIZE, INK)
    step = next((step for step in TICK_STEPS if duration / step <= 9), duration / 8)
    ticks = np.arange(0, duration + 1e-9, step).tolist()
    axis_top = lanes_top + lanes_height
    for tick, text in zip(ticks, format_times(ticks), strict=True):
        page.write(left + tick / duration * width, axis_top + 0.18, text, TIME_SIZE, QUIET, align="center")
    if note:
        page.write(MARGIN, axis_top + AXIS_HEIGHT + NOTE_HEIGHT / 2, note, TIME_SIZE, QUIET)
    return page.figure


def thumbnail_row(thumbnails: Thumbnails, duration: float, width: float) -> tuple[list[float], list[np.ndarray]]:
    """Where thumbnails begin, in inches from the left end of the time axis, and the pictures of these times."""
    beginning = thumbnails.nearest([0.0])
    if not beginning:
        return [], []
    [first] = beginning
    # Wide pictures: fewer of them, so that they are not too small.
    count = min(MOST_THUMBNAILS, max(3, round(width / (0.85 * first.shape[1] / first.shape[0]))))
    step = (width + FRAME_GAP) / count
    times = [(number + 0.5) / count * duration for number in range(count)]
    return list(itertools.islice(itertools.count(0.0, step), count)), thumbnails.nearest(times)


def shape_of(pictures: Sequence[np.ndarray]) -> float:
    """Height by width."""
    return pictures[0].shape[0] / pictures[0].shape[1]
