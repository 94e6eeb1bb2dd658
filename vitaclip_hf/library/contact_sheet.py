"""A picture of the hits of a search: a frame of each, its rank, name and time. Needs matplotlib."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from PIL import Image, ImageOps

from ..model.decoding import open_video
from ..model.read_options import ReadOptions
from .figure import DOTS_PER_INCH, INK, INNER_WIDTH, LABEL_SIZE, MARGIN, TRACK, Page, format_times
from .store import Moment
from .windows import thumbnail_of


COLUMNS = 5
GAP = 0.16  # inches
SHAPE = 9 / 16  # height by width of a cell
CAPTION_HEIGHT = 0.62
PICTURE_HEIGHT = 240  # pixels


def draw_contact_sheet(
    hits: Sequence[Moment], folder: str | Path, title: str | None = None, options: ReadOptions | None = None
) -> Figure:
    """
    Draws the hits of a search, best first.

    Args:
        hits ([`Moment`]): of [`VideoStore.search`].
        folder: the indexed folder; one frame of each hit is read.
        title (`str`, *optional*): a line above, such as the query.
        options ([`ReadOptions`], *optional*): how the videos are opened and decoded.

    Returns:
        `matplotlib.figure.Figure`

    Raises:
        ValueError: there are no hits.
        VideoDecodingError: a video cannot be read any more.
    """
    if not hits:
        raise ValueError("`hits` is empty; there is nothing to draw.")
    pictures = [middle_frame(folder, hit, options) for hit in hits]
    width = (INNER_WIDTH + GAP) / COLUMNS - GAP
    # Cells have one shape; it is that of the pictures if they share theirs.
    shapes = {round(picture.shape[0] / picture.shape[1], 2) for picture in pictures}
    height = width * (min(shapes.pop(), 1.4) if len(shapes) == 1 else SHAPE)
    cell = round(2 * width * DOTS_PER_INCH), round(2 * height * DOTS_PER_INCH)  # pixels
    page, size = Page(title), LABEL_SIZE - 3
    for place, (hit, picture) in enumerate(zip(hits, pictures, strict=True)):
        row, column = divmod(place, COLUMNS)
        left, top = MARGIN + column * (width + GAP), page.top + row * (height + CAPTION_HEIGHT + GAP)
        padded = ImageOps.pad(Image.fromarray(picture), cell, color=TRACK)
        page.add_picture(np.asarray(padded), left, top, width, height)
        middle, rank = top + height + 0.2, f"{place + 1}  "
        page.write(left, middle, rank, size, INK, weight="bold")
        indent = page.width_of(rank, size, "bold") + 0.04
        page.write(left + indent, middle, page.keep_end(hit.path, width - indent, size), size, INK)
        start, end = format_times([hit.start, max(hit.end, hit.start + 0.1)])
        page.write(left, middle + 0.23, f"{start.removesuffix(' s')} – {end}")
        page.write(left + width, middle + 0.23, f"{hit.cosine:.2f}", ha="right")
    rows = -(-len(hits) // COLUMNS)
    return page.finish(page.top + rows * (height + CAPTION_HEIGHT + GAP) - GAP + MARGIN - 0.1)


def middle_frame(folder: str | Path, hit: Moment, options: ReadOptions | None = None) -> np.ndarray:
    """A frame in the middle of a hit, small, of shape `(height, width, 3)`."""
    video: Any = open_video(hit.path if "://" in hit.path else Path(folder, hit.path), options, decoder="pyav")
    metadata, middle = video.metadata, (hit.start + hit.end) / 2
    number = min(round((middle - metadata.start) * (metadata.fps or 0)), metadata.total_num_frames - 1)
    picture = video.read([max(number, 0)])[0].permute(1, 2, 0).numpy()
    if not hit.start <= video.metadata.timestamps[0] < hit.end:  # the rate varies: only the times of all frames tell
        for frame in video.frames():
            if frame.end > middle:
                break
        picture = frame.rgb
    return thumbnail_of(picture, PICTURE_HEIGHT)
