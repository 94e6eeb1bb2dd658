"""One picture of where a model looks: frames, maps on them, and bars below. Needs matplotlib."""

from collections.abc import Callable

import numpy as np
import torch
from matplotlib import colormaps
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from .figure import (
    BEST,
    FRAME_GAP,
    FRAMES_IN_A_ROW,
    INK,
    MARGIN,
    OTHER,
    QUIET,
    TIME_SIZE,
    TITLE_HEIGHT,
    TRACK,
    WIDTH,
    Page,
    format_times,
)
from .relevance import KINDS_OF_TOKENS, Relevance


NAME_WIDTH = 1.75  # inches
HIGHEST_PICTURE = 1.5
BARS_HEIGHT = 0.5
QUESTION_HEIGHT = 0.36
BLOCK_GAP = 0.3
NAME_SIZE = 10.5
LEGEND_HEIGHT = 0.3
BAR_SHARE = 0.62  # of a frame's width
# Okabe and Ito's, in an order that differs in lightness too.
KIND_COLORS = dict(zip(KINDS_OF_TOKENS, ("#B8C0CA", "#0072B2", "#56B4E9", "#E69F00", "#D55E00"), strict=True))
HEAT = colormaps["inferno"]


def draw_relevance(relevance: Relevance, title: str | None = None) -> Figure:
    """
    Draws the frames; on them the relevance and the attention of the patches; below, a bar for the relevance of each
    frame and one for what its class token attends to.

    Each map is scaled to its largest value, over all frames: frames can be compared, the two maps cannot.

    Args:
        relevance ([`Relevance`]): of [`explain`].
        title (`str`, *optional*): a line above the frames.

    Returns:
        `matplotlib.figure.Figure`: `figure.savefig("grid.png")`.
    """
    count = len(relevance.pictures)
    blocks = -(-count // FRAMES_IN_A_ROW)
    columns = -(-count // blocks)
    shape = relevance.pictures.shape[3] / relevance.pictures.shape[2]
    width = min((WIDTH - 2 * MARGIN - NAME_WIDTH - (columns - 1) * FRAME_GAP) / columns, HIGHEST_PICTURE * shape)
    height = width / shape

    page = Page()
    top = MARGIN + (QUESTION_HEIGHT if title else 0) + TITLE_HEIGHT
    block = 3 * (height + FRAME_GAP) + 2 * BARS_HEIGHT + 0.6 + LEGEND_HEIGHT
    page.figure.set_size_inches(WIDTH, top + blocks * block + (blocks - 1) * BLOCK_GAP + LEGEND_HEIGHT + MARGIN - 0.25)
    page.title(title)
    question = page.wrap(
        f"Where it looks for “{relevance.label}”", WIDTH - 2 * MARGIN - 1.5, 1, NAME_SIZE + 2, "normal"
    )
    page.write(MARGIN, top - TITLE_HEIGHT + 0.12, question, NAME_SIZE + 2, INK)
    page.write(
        WIDTH - MARGIN, top - TITLE_HEIGHT + 0.12, f"cosine {relevance.cosine:.2f}", TIME_SIZE + 1, QUIET, align="right"
    )

    stamps = format_times(relevance.times) if relevance.times else [f"frame {number}" for number in relevance.frames]
    pictures = relevance.pictures.permute(0, 2, 3, 1).numpy()
    rows: list[tuple[str, str, Callable[[int], np.ndarray]]] = [
        ("Frames", "the part it is shown", lambda index: pictures[index]),
        ("Relevance", "evidence for the label", heated(pictures, relevance.patch_relevance)),
        ("Attention", "of the class token", heated(pictures, relevance.patch_attention)),
    ]
    lowest = min(0.0, float(relevance.frame_relevance.min()))
    largest = max(float(relevance.frame_relevance.abs().max()), 1e-9)
    for number in range(blocks):
        numbers = range(number * columns, min((number + 1) * columns, count))
        lefts = [MARGIN + NAME_WIDTH + place * (width + FRAME_GAP) for place in range(len(numbers))]
        down = top + number * (block + BLOCK_GAP)
        for name, about, picture in rows:
            _name(page, down + height / 2, name, about)
            for left, index in zip(lefts, numbers, strict=True):
                axes = page.add_axes(left, down, width, height)
                axes.imshow(picture(index), aspect="auto", interpolation="lanczos")
            down += height + FRAME_GAP
        for left, index in zip(lefts, numbers, strict=True):
            page.write(left + width / 2, down + 0.08, stamps[index], TIME_SIZE, QUIET, align="center")
        down += LEGEND_HEIGHT

        _name(page, down + BARS_HEIGHT / 2, "Frame’s part", "lost if left out")
        for left, index in zip(lefts, numbers, strict=True):
            axes = page.add_axes(left, down, width, BARS_HEIGHT, label=f"part of frame {index}")
            value = float(relevance.frame_relevance[index]) / largest
            axes.set(xlim=(0, 1), ylim=(min(0.0, lowest / largest), 1))
            axes.plot((0, 1), (0, 0), color=TRACK, linewidth=1.5, solid_capstyle="butt")
            axes.bar(0.5, value, BAR_SHARE, color=BEST if value > 0 else OTHER)
            text = f"{float(relevance.frame_relevance[index]):+.3f}".replace("-", "−")
            page.write(left + width / 2, down + BARS_HEIGHT + 0.12, text, TIME_SIZE - 1, QUIET, align="center")
        down += BARS_HEIGHT + 0.4

        _name(page, down + BARS_HEIGHT / 2, "Attention to", "patches and prompts")
        for left, index in zip(lefts, numbers, strict=True):
            axes = page.add_axes(left, down, width, BARS_HEIGHT, label=f"attention of frame {index}")
            axes.set(xlim=(0, 1), ylim=(0, 1))
            bottom = 0.0
            for kind in KINDS_OF_TOKENS:
                share = float(relevance.attention[kind][index])
                axes.bar(0.5, share, BAR_SHARE, bottom=bottom, color=KIND_COLORS[kind])
                bottom += share
        down += BARS_HEIGHT + 0.2
    _legend(page, MARGIN + NAME_WIDTH, down + 0.08, relevance)
    return page.figure


def heated(pictures: np.ndarray, patches: torch.Tensor) -> Callable[[int], np.ndarray]:
    """What gives the grey frame of a number under the colours of its map."""
    size = pictures.shape[1:3]
    maps = torch.nn.functional.interpolate(patches[:, None].float(), size=size, mode="bilinear")[:, 0]
    maps = (maps / maps.max().clamp(min=1e-12)).clamp(0, 1)

    def picture(index: int) -> np.ndarray:
        heat = maps[index].numpy()
        grey = pictures[index].mean(-1, keepdims=True) / 255
        colors = HEAT(heat)[..., :3]
        strength = 0.8 * heat[..., None] ** 0.7
        return (grey * 0.75 * (1 - strength) + colors * strength).clip(0, 1)

    return picture


def _name(page: Page, middle: float, name: str, about: str) -> None:
    page.write(MARGIN, middle - 0.09, name, NAME_SIZE, INK, weight="bold")
    page.write(MARGIN, middle + 0.11, about, TIME_SIZE - 0.5, QUIET)


def _legend(page: Page, left: float, middle: float, relevance: Relevance) -> None:
    page_width, page_height = page.figure.get_size_inches()
    for kind in KINDS_OF_TOKENS:
        share = float(relevance.attention[kind].mean())
        text = f"{kind} {share:.0%}"
        side = 0.11
        page.figure.add_artist(
            Rectangle(
                (left / page_width, 1 - (middle + side / 2) / page_height),
                side / page_width,
                side / page_height,
                transform=page.figure.transFigure,
                color=KIND_COLORS[kind],
                linewidth=0,
            )
        )
        page.write(left + 0.17, middle, text, TIME_SIZE, QUIET)
        left += 0.17 + page.width_of(text, TIME_SIZE, "normal") + 0.22
