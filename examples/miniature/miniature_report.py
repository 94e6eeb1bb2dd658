"""Tables and figures of the miniature, made from `results.json` alone."""

import math
from collections.abc import Callable
from pathlib import Path
from statistics import mean, stdev

from miniature_systems import SYSTEMS


ZERO_SHOT = ("objects", "motions", "both")
MEASURES = {
    "trained": "supervised",
    "objects": "unseen objects",
    "motions": "unseen motions",
    "both": "both unseen",
    "zero_shot": "zero-shot (mean)",
    "retention": "retention",
}
FINE_TUNED = ("actionclip", "vifi", "xclip")
COMPARED = ("frozen", "linear", "a5", *FINE_TUNED, "vision", "all")
ABLATION = ("frozen", "contexts", "global", "local", "vision", "all")
OPTIONS = ("all", "distilled", "penalised")
COLORS = {
    "frozen": "#555555",
    "linear": "#b0892f",
    "a5": "#8c6bb1",
    "actionclip": "#d95f02",
    "vifi": "#e7298a",
    "xclip": "#c51b1b",
    "vision": "#41ab9d",
    "all": "#08519c",
}
# Student's t, two-sided 95%, by degrees of freedom.
T95 = {1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776, 5: 2.571, 6: 2.447, 7: 2.365, 8: 2.306, 9: 2.262}
# Below this rise of validation accuracy from half the steps to all of them, a system counts as converged.
CONVERGED = 0.01


# --- Numbers ---------------------------------------------------------------------------------------------------------


def runs_of(records: list[dict], name: str) -> dict[int, dict]:
    """A system's runs by seed."""
    return {r["seed"]: r for r in records if r["phase"] == "run" and r["system"] == name}


def value_of(point: dict, measure: str) -> float | None:
    """One accuracy of a point of a curve; `zero_shot` is the mean of the three."""
    if measure != "zero_shot":
        return point[measure]
    values = [point[name] for name in ZERO_SHOT]
    return None if None in values else mean(values)


def finals(records: list[dict], name: str, measure: str) -> dict[int, float]:
    """The last accuracies of a system's runs by seed; empty where it has none."""
    found = {seed: value_of(run["curve"][-1], measure) for seed, run in sorted(runs_of(records, name).items())}
    return {seed: value for seed, value in found.items() if value is not None}


def interval(values: list[float]) -> tuple[float, float]:
    """Mean and half of its 95% interval (Student's t over the runs); no width for one value."""
    if len(values) < 2:
        return mean(values), math.nan
    return mean(values), T95.get(len(values) - 1, 1.96) * stdev(values) / math.sqrt(len(values))


def fresh_run(values: list[float]) -> tuple[float, float] | None:
    """Where one more run, with a seed of its own, falls in 95 of 100 cases."""
    if len(values) < 2:
        return None
    width = T95.get(len(values) - 1, 1.96) * stdev(values) * math.sqrt(1 + 1 / len(values))
    return max(0.0, mean(values) - width), min(1.0, mean(values) + width)


def difference(records: list[dict], name: str, other: str, measure: str) -> tuple[float, float] | None:
    """Mean of `name` minus `other` seed by seed, and half of its 95% interval; the frozen CLIP has one run for all."""
    ours, theirs = finals(records, name, measure), finals(records, other, measure)
    if other == "frozen" and theirs:
        theirs = dict.fromkeys(ours, theirs[0])
    both = sorted(set(ours) & set(theirs))
    return interval([ours[seed] - theirs[seed] for seed in both]) if len(both) > 1 else None


def rise(records: list[dict], name: str) -> float | None:
    """How much validation accuracy rose in the second half of the steps, mean over the runs."""
    curves = [run["curve"] for run in runs_of(records, name).values()]
    return mean(c[-1]["validation"] - c[-2]["validation"] for c in curves) if curves and len(curves[0]) > 1 else None


# --- Tables ----------------------------------------------------------------------------------------------------------


def percent(values: list[float]) -> str:
    if not values:
        return "–"
    middle, width = interval(values)
    return f"{100 * middle:.1f}" + ("" if math.isnan(width) else f" ± {100 * width:.1f}")


def points(found: tuple[float, float] | None) -> str:
    return "–" if found is None else f"{100 * found[0]:+.1f} ± {100 * found[1]:.1f}"


def markdown(head: list[str], rows: list[list[str]]) -> str:
    align = ["---", *["---:"] * (len(head) - 1)]
    return "\n".join("| " + " | ".join(row) + " |" for row in [head, align, *rows])


def chosen_rate(records: list[dict], name: str) -> str:
    rates = {run["lr"] for run in runs_of(records, name).values()}
    return ", ".join("–" if rate is None else f"{rate:g}" for rate in sorted(rates, key=lambda r: r or 0))


def systems_table(records: list[dict], names: tuple[str, ...]) -> str:
    rows = []
    for name in names:
        runs = runs_of(records, name)
        if runs:
            parameters = next(iter(runs.values()))["trained_parameters"]
            cells = [percent(list(finals(records, name, measure).values())) for measure in MEASURES]
            rows.append([SYSTEMS[name].title, f"{parameters:,}", *cells, chosen_rate(records, name), str(len(runs))])
    return markdown(["system", "trained parameters", *MEASURES.values(), "lr", "runs"], rows)


def fresh_table(records: list[dict]) -> str:
    rows = []
    for name in SYSTEMS:
        cells = []
        for measure in MEASURES:
            found = fresh_run(list(finals(records, name, measure).values()))
            cells.append("–" if found is None else f"{100 * found[0]:.1f} … {100 * found[1]:.1f}")
        if any(cell != "–" for cell in cells):
            rows.append([SYSTEMS[name].title, *cells])
    return markdown(["system", *MEASURES.values()], rows)


def differences_table(records: list[dict], names: tuple[str, ...], base: str) -> str:
    rows = []
    for name in names:
        if name != base and runs_of(records, name):
            cells = [points(difference(records, base, name, measure)) for measure in MEASURES]
            rows.append([f"{SYSTEMS[base].title} − {SYSTEMS[name].title}", *cells])
    return markdown(["same seed", *MEASURES.values()], rows)


def convergence_table(records: list[dict]) -> str:
    rows = []
    for name, spec in SYSTEMS.items():
        found = rise(records, name)
        if found is not None:
            curves = [run["curve"] for run in runs_of(records, name).values()]
            steps = [f"{100 * mean(curve[at]['validation'] for curve in curves):.1f}" for at in range(len(curves[0]))]
            rows.append([spec.title, *steps, f"{100 * found:+.1f}", "yes" if found < CONVERGED else "**no**"])
    heads = [str(point["step"]) for r in records if r["phase"] == "run" and r["lr"] for point in r["curve"]]
    return markdown(["validation after … steps", *dict.fromkeys(heads), "last doubling", "converged"], rows)


def search_table(records: list[dict]) -> str:
    rows = []
    for name, spec in SYSTEMS.items():
        found = {
            r["lr"]: r["curve"][-1]["validation"] for r in records if r["phase"] == "search" and r["system"] == name
        }
        if found:
            rows.append([spec.title, " · ".join(f"{lr:g}: {100 * found[lr]:.1f}" for lr in sorted(found))])
    return markdown(["system", "rate: validation top-1"], rows)


def options_table(records: list[dict]) -> str:
    """Blend, distillation, penalty and wordings, each against Vita-CLIP without it, seed by seed."""
    rows = [
        [f"{SYSTEMS[name].title} − Vita-CLIP", *[points(difference(records, name, "all", m)) for m in MEASURES]]
        for name in OPTIONS[1:]
        if runs_of(records, name)
    ]
    for name in ("all", "vision"):
        runs = runs_of(records, name)
        for weight in sorted({weight for run in runs.values() for weight in run["blends"]} - {"0"}, key=float):
            cells = [
                points(
                    interval([value_of(r["blends"][weight], m) - value_of(r["blends"]["0"], m) for r in runs.values()])
                )
                for m in MEASURES
            ]
            rows.append([f"{SYSTEMS[name].title}, blend {weight}", *cells])
    for name in ("frozen", "vision", "all"):
        runs = runs_of(records, name)
        if runs:
            gains = {
                m: [value_of(r["wordings"], m) - value_of(r["curve"][-1], m) for r in runs.values()]
                for m in (*ZERO_SHOT, "zero_shot")
            }
            cells = ["–" if m not in gains else points(interval(gains[m])).replace(" ± nan", "") for m in MEASURES]
            rows.append([f"{SYSTEMS[name].title}, three wordings a class", *cells])
    return markdown(["option, change in points", *MEASURES.values()], rows)


def chosen_blend(run: dict) -> str:
    """The largest weight whose validation accuracy is within half a point of the best: the rule of README.md."""
    found = {weight: part["validation"] for weight, part in run["blends"].items()}
    return max((weight for weight in found if found[weight] >= max(found.values()) - 0.005), key=float)


def blend_line(records: list[dict]) -> str:
    lines = []
    for name in ("all", "vision"):
        runs = runs_of(records, name)
        if runs:
            chosen = {seed: chosen_blend(run) for seed, run in sorted(runs.items())}
            gains = {
                m: interval(
                    [value_of(r["blends"][chosen[s]], m) - value_of(r["blends"]["0"], m) for s, r in runs.items()]
                )
                for m in MEASURES
            }
            told = ", ".join(f"{MEASURES[m]} {points(gain)}" for m, gain in gains.items())
            lines.append(f"{SYSTEMS[name].title}, weights chosen on validation ({', '.join(chosen.values())}): {told}.")
    return "\n\n".join(lines)


def checks_text(records: list[dict]) -> str:
    [frozen] = runs_of(records, "frozen").values()
    words, motions = frozen["motion_words_of_stills"], frozen["motions_of_videos"]
    return "\n".join(
        [
            f"- Stills: the frozen CLIP names the depicted motion of {100 * words['unseen']:.1f}% (unseen motions) and "
            f"{100 * words['trained']:.1f}% (trained motions).",
            f"- Videos: averaged frozen frames name the motion of {100 * motions['motions']:.1f}% (unseen motions, "
            f"chance 25%) and {100 * motions['trained']:.1f}% (trained motions, chance 16.7%).",
        ]
    )


def frames_table(records: list[dict]) -> str:
    rows = []
    for count, values in frames_series(records).items():
        rows.append([str(count), *[percent(values[measure]) for measure in MEASURES if measure in values]])
    return markdown(["test frames (trained with 8)", *[MEASURES[m] for m in MEASURES if m != "retention"]], rows)


def frames_series(records: list[dict], name: str = "all") -> dict[int, dict[str, list[float]]]:
    """Accuracies of Vita-CLIP's runs for each number of test frames."""
    runs = [run["frames"] for run in runs_of(records, name).values()]
    counts = sorted({int(count) for run in runs for count in run})
    names = [measure for measure in MEASURES if measure != "retention"]
    return {count: {m: [value_of(run[str(count)], m) for run in runs] for m in names} for count in counts}


def write_tables(path: Path, records: list[dict], setting: dict) -> None:
    hours = sum(record["cpu_seconds"] for record in records) / 3600
    sections: dict[str, str] = {
        "Is the world one?": checks_text(records) if runs_of(records, "frozen") else "–",
        "Systems": systems_table(records, COMPARED),
        "Vita-CLIP against the others": differences_table(records, COMPARED, "all"),
        "Kinds of prompts": systems_table(records, ABLATION),
        "Options": options_table(records) + "\n\n" + blend_line(records),
        "Frames at test time": frames_table(records),
        "Convergence": convergence_table(records),
        "Learning rates tried": search_table(records),
        "Where a fresh run falls": "In 95 of 100 cases, one more run with a seed of its own.\n\n"
        + fresh_table(records),
    }
    head = [
        "Made by `miniature.py --report` from `results.json`. Top-1 in %, mean over seeds ± half of its 95% interval",
        "(Student's t over the runs; the test clips are the same for all of them).",
        f"{setting['steps']} steps of {setting['batch']} clips of 8 frames; {len(records)} runs,",
        f"{hours:.1f} hours of CPU time together.",
    ]
    text = "\n".join(head) + "\n" + "".join(f"\n## {title}\n\n{body}\n" for title, body in sections.items())
    path.write_text(text)


# --- Figures ---------------------------------------------------------------------------------------------------------


def mean_curve(records: list[dict], name: str, measure: str) -> list[tuple[float, float, float, float]]:
    """Steps, CPU seconds, mean and half interval in %, point by point."""
    runs = list(runs_of(records, name).values())
    curves = [run["curve"] for run in runs if value_of(run["curve"][-1], measure) is not None]
    found = []
    for parts in zip(*curves, strict=True):
        middle, width = interval([value_of(part, measure) for part in parts])
        seconds = mean(part["train_cpu_seconds"] for part in parts)
        found.append((parts[0]["step"], seconds, 100 * middle, 0.0 if math.isnan(width) else 100 * width))
    return found


def plot_trade_off(figure, records: list[dict]) -> None:
    """Supervised accuracy against zero-shot and against retention, over training time."""
    panels = figure.subplots(1, 2)
    for axes, measure in zip(panels, ("zero_shot", "retention"), strict=True):
        for name in COMPARED:
            across, up = mean_curve(records, name, "trained"), mean_curve(records, name, measure)
            if not up:
                continue
            x, y = [part[2] for part in across], [part[2] for part in up]
            axes.plot(x, y, "-", color=COLORS[name], linewidth=1.2, alpha=0.6)
            axes.plot(x[:-1], y[:-1], ".", color=COLORS[name], markersize=4, alpha=0.6)
            axes.errorbar(
                x[-1], y[-1], up[-1][3], across[-1][3], "o", color=COLORS[name], capsize=2, label=SYSTEMS[name].title
            )
        axes.set(xlabel="supervised, top-1 in %", ylabel=f"{MEASURES[measure]}, top-1 in %", xlim=(30, 102))
        axes.grid(alpha=0.25)
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=4, frameon=False)


def plot_curves(figure, records: list[dict]) -> None:
    """Equal steps above, equal compute below."""
    panels = figure.subplots(2, 3, sharey="col")
    for row, (part, unit) in enumerate(((0, "training steps"), (1, "CPU seconds of training"))):
        for column, measure in enumerate(("trained", "zero_shot", "retention")):
            axes = panels[row][column]
            for name in COMPARED:
                curve = mean_curve(records, name, measure)
                if not curve:
                    continue
                if name == "frozen":
                    axes.axhline(curve[0][2], color=COLORS[name], linestyle=":", label=SYSTEMS[name].title)
                    continue
                x, y, width = [p[part] for p in curve], [p[2] for p in curve], [p[3] for p in curve]
                axes.plot(x, y, "o-", color=COLORS[name], markersize=3, linewidth=1.2, label=SYSTEMS[name].title)
                low, high = ([a + sign * b for a, b in zip(y, width, strict=True)] for sign in (-1, 1))
                axes.fill_between(x, low, high, color=COLORS[name], alpha=0.15, linewidth=0)
            axes.set_xscale("log")
            if row == 0:
                axes.set_xticks(x, [f"{step:,}" for step in x], minor=False)
                axes.minorticks_off()
            axes.set(xlabel=unit, ylim=(0, 100))
            axes.grid(alpha=0.25)
            if row == 0:
                axes.set_title(f"{MEASURES[measure]}, top-1 in %", fontsize=10)
    handles = panels[0][0].get_legend_handles_labels()
    figure.legend(*handles, loc="outside lower center", ncols=4, frameon=False)


def plot_bars(names: tuple[str, ...]) -> Callable:
    def plot(figure, records: list[dict]) -> None:
        panels = figure.subplots(1, 3, sharey=True)
        shown = [name for name in names if runs_of(records, name)]
        for axes, measure in zip(panels, ("trained", "zero_shot", "retention"), strict=True):
            for place, name in enumerate(shown):
                middle, width = interval(list(finals(records, name, measure).values()))
                width = 0 if math.isnan(width) else 100 * width
                axes.barh(place, 100 * middle, 0.62, xerr=width, color=COLORS.get(name, "#7fb2d6"), capsize=2)
            axes.set_title(f"{MEASURES[measure]}, top-1 in %", fontsize=10)
            axes.set_yticks(range(len(shown)), [SYSTEMS[name].title for name in shown])
            axes.grid(axis="x", alpha=0.25)
            axes.set_axisbelow(True)
        panels[0].invert_yaxis()

    return plot


def plot_frames(figure, records: list[dict]) -> None:
    axes = figure.subplots()
    series = frames_series(records)
    for measure, style in (("trained", "o-"), ("objects", "s-"), ("motions", "^-"), ("both", "v-")):
        found = [interval(values[measure]) for values in series.values()]
        middles = [100 * middle for middle, _ in found]
        widths = [0 if math.isnan(width) else 100 * width for _, width in found]
        axes.errorbar(list(series), middles, widths, fmt=style, markersize=4, capsize=2, label=MEASURES[measure])
    axes.set_xscale("log", base=2)
    axes.set_xticks(list(series), [str(count) for count in series])
    axes.axvline(8, color="tab:gray", linestyle=":", linewidth=1)
    axes.set(xlabel="frames at test time (trained with 8)", ylabel="Vita-CLIP, top-1 in %", ylim=(0, 100))
    axes.grid(alpha=0.25)
    axes.legend(frameon=False, ncols=2)


def write_plots(folder: Path, records: list[dict]) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figures = {
        "trade_off": (plot_trade_off, (9, 4.8)),
        "curves": (plot_curves, (10, 6.4)),
        "ablation": (plot_bars(ABLATION), (9.5, 3)),
        "frames": (plot_frames, (5.5, 3.8)),
    }
    for name, (plot, size) in figures.items():
        figure = pyplot.figure(figsize=size, layout="constrained")
        plot(figure, records)
        # No software version inside: the same numbers give the same file.
        figure.savefig(folder / f"{name}.png", dpi=130, metadata={"Software": None})
        pyplot.close(figure)


def write_report(folder: Path, records: list[dict], setting: dict) -> None:
    """`tables.md` and four figures into the folder, of whatever runs are finished."""
    write_tables(folder / "tables.md", records, setting)
    write_plots(folder, records)
