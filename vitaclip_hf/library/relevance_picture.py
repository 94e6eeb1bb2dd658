"""One picture of where a model looks: frames, maps on them, and bars below. Needs matplotlib."""

import numpy as np
import torch
from matplotlib import colormaps
from matplotlib.figure import Figure

from .figure import BEST, FRAME_GAP, INK, INNER_WIDTH, MARGIN, OTHER, TRACK, WIDTH, Page, columns_of, format_times
from .relevance import KINDS_OF_TOKENS, Relevance


NAME_WIDTH = 1.75  # inches
HIGHEST_PICTURE = 1.5
BARS_HEIGHT = 0.5
QUESTION_HEIGHT = 0.5
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
    pictures = relevance.pictures.permute(0, 2, 3, 1).numpy()
    count, shape = len(pictures), pictures.shape[2] / pictures.shape[1]
    columns = columns_of(count)
    width = min((INNER_WIDTH - NAME_WIDTH + FRAME_GAP) / columns - FRAME_GAP, HIGHEST_PICTURE * shape)
    height, bar = width / shape, BAR_SHARE * width
    stamps = format_times(relevance.times) if relevance.times else [f"frame {number}" for number in relevance.frames]
    maps = {
        ("Frames", "the part it is shown"): pictures,
        ("Relevance", "evidence for the label"): heat_map(pictures, relevance.patch_relevance),
        ("Attention", "of the class token"): heat_map(pictures, relevance.patch_attention),
    }
    parts = relevance.frame_relevance.numpy() / max(float(relevance.frame_relevance.abs().max()), 1e-9)
    part_height = BARS_HEIGHT / (1 - min(parts.min(), 0.0))
    attention = {kind: values.numpy() for kind, values in relevance.attention.items()}

    page = Page(title)
    question = page.wrap(f"Where it looks for “{relevance.label}”", INNER_WIDTH - 1.5, 1, NAME_SIZE + 2)
    page.write(MARGIN, page.top + 0.12, question, NAME_SIZE + 2, INK)
    page.write(WIDTH - MARGIN, page.top + 0.12, f"cosine {relevance.cosine:.2f}", ha="right")
    page.top += QUESTION_HEIGHT

    def name_row(name: str, meaning: str, row_height: float) -> None:
        middle = page.top + row_height / 2
        page.write(MARGIN, middle - 0.09, name, NAME_SIZE, INK, weight="bold")
        page.write(MARGIN, middle + 0.11, meaning)

    for first in range(0, count, columns):
        block = slice(first, first + columns)
        lefts = MARGIN + NAME_WIDTH + np.arange(len(pictures[block])) * (width + FRAME_GAP)
        for names, images in maps.items():
            name_row(*names, height)
            for left, image in zip(lefts, images[block], strict=True):
                page.add_picture(image, left, page.top, width, height)
            page.top += height + FRAME_GAP
        for left, stamp in zip(lefts, stamps[block], strict=True):
            page.write(left + width / 2, page.top + 0.08, stamp, ha="center")
        page.top += LEGEND_HEIGHT

        name_row("Frame’s part", "lost if left out", BARS_HEIGHT)
        colors = [BEST if part > 0 else OTHER for part in parts[block]]
        zero = page.top + part_height
        page.axes.hlines([zero] * len(lefts), lefts, lefts + width, color=TRACK, linewidth=1.5)
        page.axes.bar(lefts + width / 2, -part_height * parts[block], bar, zero, color=colors, label="part")
        for left, value in zip(lefts, relevance.frame_relevance[block].tolist(), strict=True):
            text = f"{value:+.3f}".replace("-", "−")
            page.write(left + width / 2, page.top + BARS_HEIGHT + 0.12, text, ha="center")
        page.top += BARS_HEIGHT + 0.4

        name_row("Attention to", "patches and prompts", BARS_HEIGHT)
        bottoms = np.full(len(lefts), page.top + BARS_HEIGHT)
        for kind, color in KIND_COLORS.items():
            heights = BARS_HEIGHT * attention[kind][block]
            page.axes.bar(lefts + width / 2, -heights, bar, bottoms, color=color, label=kind)
            bottoms = bottoms - heights
        page.top += BARS_HEIGHT + 0.2 + BLOCK_GAP
    left, middle = MARGIN + NAME_WIDTH, page.top - BLOCK_GAP + 0.08
    for kind, color in KIND_COLORS.items():
        text = f"{kind} {attention[kind].mean():.0%}"
        page.axes.barh(middle, 0.11, 0.11, left, color=color)
        page.write(left + 0.17, middle, text)
        left += 0.39 + page.width_of(text)
    return page.finish(page.top - BLOCK_GAP + LEGEND_HEIGHT + MARGIN - 0.25)


def heat_map(pictures: np.ndarray, patches: torch.Tensor) -> np.ndarray:
    """The frames in grey under the colours of their map, of shape `(num_frames, height, width, 3)`."""
    maps = torch.nn.functional.interpolate(patches[:, None].float(), size=pictures.shape[1:3], mode="bilinear")[:, 0]
    heat = (maps / maps.max().clamp(min=1e-12)).clamp(0, 1).numpy()
    grey, strength = pictures.mean(-1, keepdims=True) / 255, 0.8 * heat[..., None] ** 0.7
    return (grey * 0.75 * (1 - strength) + HEAT(heat)[..., :3] * strength).clip(0, 1)
