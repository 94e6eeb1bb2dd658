"""One picture of a timeline: thumbnails along the time axis, and a lane for each label. Needs matplotlib."""

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
    TIME_HEIGHT,
    TRACK,
    WIDTH,
    Page,
    format_times,
)
from .timeline import ScoredTime, Segment, Thumbnails


LANE_HEIGHT = 0.46  # inches
LANE_BAR = 0.3
WIDEST_NAME = 3.07
GAP_ABOVE_LANES = 0.22
MOST_LANES = 100
MOST_THUMBNAILS = 10
NOTE_HEIGHT = 0.34
AXIS_HEIGHT = 0.36
UNDERLINE = 0.032
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
        cells ([`ScoredTime`]): of [`VideoTimeline.cells`], at least one; their thumbnails are not needed.
        thumbnails ([`Thumbnails`]): pictures of the video.
        title (`str`, *optional*): a line above them.

    Returns:
        `matplotlib.figure.Figure`
    """
    duration = cells[-1].end
    length: dict[str, float] = {}
    for segment in sorted(segments, key=lambda segment: segment.start):
        length[segment.label] = length.get(segment.label, 0.0) + segment.end - segment.start
    longest = sorted(length, key=lambda label: -length[label])[:MOST_LANES]
    lanes = [label for label in length if label in longest]  # by first appearance

    page = Page(title)
    names = [page.wrap(label, WIDEST_NAME, 1, LABEL_SIZE) for label in lanes]
    left = MARGIN + max((COLUMN_GAP + page.width_of(name, LABEL_SIZE) for name in names), default=0.0)
    width = WIDTH - MARGIN - left
    if pictures := thumbnail_row(thumbnails, duration, width):
        step = (width + FRAME_GAP) / len(pictures)
        height = (step - FRAME_GAP) * pictures[0][1].shape[0] / pictures[0][1].shape[1]
        stamps = format_times([time for time, _ in pictures])
        for place, ((_, picture), stamp) in enumerate(zip(pictures, stamps, strict=True)):
            page.add_picture(picture, left + place * step, page.top, step - FRAME_GAP, height)
            page.write(left + (place + 0.5) * step - FRAME_GAP / 2, page.top + height + 0.16, stamp, ha="center")
        page.top += height + TIME_HEIGHT / 2
    page.top += GAP_ABOVE_LANES

    scale = width / duration
    edges = left + scale * np.array([cell.start for cell in cells] + [duration])
    middles = np.array([(cell.start + cell.end) / 2 for cell in cells])
    for label, name in zip(lanes, names, strict=True):
        middle = page.top + LANE_HEIGHT / 2
        bottom = middle + LANE_BAR / 2
        page.write(MARGIN, middle, name, LABEL_SIZE, INK)
        page.axes.barh(middle, width, LANE_BAR, left, color=TRACK)
        scores = np.array([float(cell.scores[labels.index(label)]) for cell in cells])
        spans = [(segment.start, segment.end) for segment in segments if segment.label == label]
        inside = np.any([(start <= middles) & (middles <= end) for start, end in spans], axis=0)
        for heights, color in ((scores, OTHER), (scores * inside, BEST)):
            page.axes.stairs(bottom - LANE_BAR * heights, edges, baseline=bottom, fill=True, color=color)
        for start, end in spans:
            page.axes.barh(bottom + UNDERLINE, scale * (end - start), UNDERLINE, left + scale * start, color=BEST)
        page.top += LANE_HEIGHT
    page.top += 0 if lanes else LANE_HEIGHT
    ticks = np.arange(0, duration + 1e-9, next((s for s in TICK_STEPS if duration / s <= 9), duration / 8)).tolist()
    for tick, text in zip(ticks, format_times(ticks), strict=True):
        page.write(left + scale * tick, page.top + 0.18, text, ha="center")
    page.top += AXIS_HEIGHT
    if len(lanes) < len(length) or not lanes:
        more = len(length) - len(lanes)
        note = f"and {more} more label{'s' * (more != 1)}" if lanes else "no segment reaches the threshold"
        page.write(MARGIN, page.top + NOTE_HEIGHT / 2, note)
        page.top += NOTE_HEIGHT
    return page.finish(page.top + MARGIN - 0.15)


def thumbnail_row(thumbnails: Thumbnails, duration: float, width: float) -> list[tuple[float, np.ndarray]]:
    """Pictures at even distances in time, with their times, to fill a row of this width in inches."""
    first = thumbnails.nearest([0.0])
    if not first:
        return []
    # Wide pictures: fewer of them, so that they are not too small.
    count = min(MOST_THUMBNAILS, max(3, round(width * first[0][1].shape[0] / (0.85 * first[0][1].shape[1]))))
    return thumbnails.nearest([(number + 0.5) / count * duration for number in range(count)])
