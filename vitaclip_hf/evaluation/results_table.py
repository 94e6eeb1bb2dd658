"""Accuracies as a Markdown table, for the results folder and for model cards."""

from collections.abc import Mapping
from typing import Any

from ..data.metrics import METRICS


ROW_TITLES = {"vita_clip": "Vita-CLIP", "frozen_clip": "frozen CLIP"}
FIGURES = tuple(METRICS)


def markdown_table(results: Mapping[str, Any]) -> str:
    """Accuracies in percent, one line for each split, with the setting below.

    Args:
        results: the content of a `results.json`.
    """
    protocol, rows = results["protocol"], results["rows"]
    class_split = results.get("class_split")
    title = protocol["name"] + (f" ({class_split['label']})" if class_split else "")
    lines = [*table_head(title, rows, "videos")]
    for split, about in results["splits"].items():
        cells = [percent(rows[row]["splits"][split][name]) for row in rows for name in FIGURES]
        lines.append(f"| {split} | {' | '.join(cells)} | {video_counts(about['videos'])} |")
    if len(results["splits"]) > 1:
        harmonic = "harmonic_mean" in next(iter(rows.values()))["top1"]
        cells = [_mean_cell(rows[row][name]) for row in rows for name in FIGURES]
        lines.append(f"| {'harmonic mean' if harmonic else 'mean ± std (n − 1)'} | {' | '.join(cells)} | |")
    notes = [*([results["limited"]] if results["limited"] else []), *results["warnings"]]
    listed = ["", *(f"- **{note}**" for note in notes)] if notes else []
    return "\n".join([*lines, "", describe_setting(results), *listed]) + "\n"


def table_head(title: str, rows: Mapping[str, Any], *more: str) -> tuple[str, str]:
    """The first two lines of a table: one column for each row of results and figure, then `more` columns."""
    columns = [f"{ROW_TITLES[row]} {METRICS[name].title}" for row in rows for name in FIGURES] + list(more)
    return f"| {title} | {' | '.join(columns)} |", "| --- |" + " ---: |" * len(columns)


def percent(value: float | None) -> str:
    """A share in 0 … 1 in percent; a dash if there is none."""
    return "–" if value is None else f"{100 * value:.1f}"


def _mean_cell(figures: Mapping[str, float | None]) -> str:
    if "harmonic_mean" in figures:
        return percent(figures["harmonic_mean"])
    return percent(figures["mean"]) + ("" if figures["std"] is None else f" ± {100 * figures['std']:.1f}")


def video_counts(videos: Mapping[str, int]) -> str:
    """How many videos of a split were evaluated, are missing and could not be read."""
    return f"{videos['evaluated']:,} of {videos['asked_for']:,}; {videos['missing']} missing, {videos['failed']} failed"


def describe_setting(results: Mapping[str, Any]) -> str:
    """One line with the model and the setting: frames, views, texts and cost."""
    protocol, model, gmacs = results["protocol"], results["model"], results["cost"]["gmacs_per_view"]
    sampling = protocol["sampling"] + (f", stride {protocol['stride']}" if protocol["sampling"] == "dense" else "")
    templates = "; ".join(f"`{template}`" for template in protocol["templates"])
    if any(about["text"] == "supervised" for about in results["splits"].values()):
        templates = f"learned contexts (frozen CLIP and novel classes: {templates})"
    else:
        templates = f"templates {templates}"
    options = results.get("options") or {}
    more = f", blend {options['blend']:g} with frozen CLIP" if "blend" in options else ""
    more += ", texts of a class descriptions file" if "descriptions" in options else ""
    return (
        f"{model['name']} ({(model['revision'] or model['sha256'])[:12]}), {results['date'][:10]}: "
        f"{protocol['frames']} frames ({sampling}), {protocol['views']} × {protocol['spatial_views']} views, "
        f"{templates}, class names {protocol['spelling']}{more}; {gmacs['vita_clip']:.1f} GMACs a view "
        f"(plain CLIP {gmacs['plain_clip']:.1f})."
    )


__all__ = ["markdown_table"]
