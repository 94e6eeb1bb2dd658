"""The look of all charts. Needs matplotlib."""

from typing import Any

from matplotlib.figure import Figure  # without pyplot: no display, no global state

from .model.shown_names import shown


# Okabe and Ito's blue, and a light grey-blue: they differ in lightness, so that all readers can tell them apart.
BEST, OTHER, TRACK = "#0072B2", "#A9BFD1", "#F0F2F5"
INK, QUIET = "#1B1F24", "#667080"
DOTS_PER_INCH = 160


def charts(count: int = 1, width: float = 8.0, height: float = 3.6) -> tuple[Figure, list[Any]]:
    """A figure of so many axes side by side, in inches."""
    figure = Figure(figsize=(width, height), layout="constrained")
    figure.get_layout_engine().set(w_pad=0.12, h_pad=0.12)  # type: ignore[union-attr]
    panels = figure.subplots(1, count, squeeze=False)[0].tolist()
    for axes in panels:
        axes.spines[["top", "right", "left", "bottom"]].set_visible(False)
        axes.tick_params(colors=QUIET, labelsize=9, length=0)
        axes.xaxis.label.set_color(QUIET)
        axes.yaxis.label.set_color(QUIET)
        axes.set_axisbelow(True)
    return figure, panels


def title(axes: Any, text: str) -> None:
    """A bold text above the axes, in several lines where it is long."""
    text = shown(text).replace("$", r"\$")  # no formula; wrapped texts ignore `parse_math`
    axes.set_title(text, loc="left", color=INK, fontsize=11, fontweight="bold", pad=10, wrap=True)
