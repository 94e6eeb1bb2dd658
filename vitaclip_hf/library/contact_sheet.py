"""One picture of what a search found: a frame of each hit, its rank, name and time. Needs matplotlib."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from ..model.decoding import open_video
from .figure import INK, LABEL_SIZE, MARGIN, QUIET, TIME_SIZE, TITLE_HEIGHT, WIDTH, Page, format_times
from .store import Moment
from .windows import thumbnail_of


COLUMNS = 5
GAP = 0.16  # inches
SHAPE = 9 / 16  # height by width of a cell
CAPTION_HEIGHT = 0.62
PICTURE_HEIGHT = 240  # pixels
EMPTY = "#F0F2F5"


def draw_contact_sheet(hits: Sequence[Moment], folder: str | Path, title: str | None = None) -> Figure:
    """
    Draws the hits of a search, best first.

    Args:
        hits ([`Moment`]): of [`VideoStore.search`].
        folder: the indexed folder; one frame of each hit is read.
        title (`str`, *optional*): a line above, such as the query.

    Returns:
        `matplotlib.figure.Figure`

    Raises:
        ValueError: there are no hits.
        VideoDecodingError: a video cannot be read any more.
    """
    if not hits:
        raise ValueError("`hits` is empty; there is nothing to draw.")
    pictures = [middle_frame(folder, hit) for hit in hits]
    page = Page()
    columns = min(COLUMNS, len(hits))
    width = (WIDTH - 2 * MARGIN - (COLUMNS - 1) * GAP) / COLUMNS
    # Cells have one shape; it is that of the pictures if they share theirs.
    shapes = {round(picture.shape[0] / picture.shape[1], 2) for picture in pictures}
    height = width * (min(shapes.pop(), 1.4) if len(shapes) == 1 else SHAPE)
    rows = -(-len(hits) // columns)
    top = MARGIN + (TITLE_HEIGHT if title else 0)
    page.figure.set_size_inches(WIDTH, top + rows * (height + CAPTION_HEIGHT + GAP) - GAP + MARGIN - 0.1)
    page.title(title)
    for place, (hit, picture) in enumerate(zip(hits, pictures, strict=True)):
        row, column = divmod(place, columns)
        left, upper = MARGIN + column * (width + GAP), top + row * (height + CAPTION_HEIGHT + GAP)
        axes = page.add_axes(left, upper, width, height, facecolor=EMPTY)
        axes.imshow(within(picture, width / height), aspect="auto", interpolation="lanczos")
        rank = f"{place + 1}  "
        page.write(left, upper + height + 0.2, rank, LABEL_SIZE - 3, INK, weight="bold")
        indent = page.width_of(rank, LABEL_SIZE - 3, "bold") + 0.04
        name = page.keep_end(hit.path, width - indent, LABEL_SIZE - 3, "normal")
        page.write(left + indent, upper + height + 0.2, name, LABEL_SIZE - 3, INK)
        start, end = format_times([hit.start, max(hit.end, hit.start + 0.1)])
        page.write(left, upper + height + 0.43, f"{start.removesuffix(' s')} – {end}", TIME_SIZE, QUIET)
        page.write(left + width, upper + height + 0.43, f"{hit.cosine:.2f}", TIME_SIZE, QUIET, align="right")
    return page.figure


def middle_frame(folder: str | Path, hit: Moment) -> np.ndarray:
    """The frame in the middle of a hit, small, of shape `(height, width, 3)`."""
    video = open_video(hit.path if "://" in hit.path else Path(folder, hit.path))
    metadata = video.metadata
    number = min(round((hit.start + hit.end) / 2 * (metadata.fps or 0)), metadata.total_num_frames - 1)
    return thumbnail_of(video.read([max(number, 0)])[0].permute(1, 2, 0).numpy(), PICTURE_HEIGHT)


def within(picture: np.ndarray, shape: float) -> np.ndarray:
    """A picture with a border that gives it this width by height; nothing is cut off."""
    height, width = picture.shape[:2]
    wide, high = max(width, round(height * shape)), max(height, round(width / shape))
    canvas = np.full((high, wide, 3), int(EMPTY[1:3], 16), np.uint8)
    top, left = (high - height) // 2, (wide - width) // 2
    canvas[top : top + height, left : left + width] = picture
    return canvas
