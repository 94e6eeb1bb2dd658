"""Tables and plots of `miniature.py`, made from its records alone."""

import statistics
from collections.abc import Callable
from pathlib import Path

from miniature_systems import SYSTEMS


TRADE_OFF = ("frozen", "linear", "a5", "actionclip", "xclip", "all")
# The ablation: each row has one kind of prompt more; beside it the same with the projection left at its random start.
ABLATION = {
    "frozen": None,
    "global": None,
    "local": "local-random",
    "summary": "summary-random",
    "contexts": None,
    "all": "all-random",
}
INITIALISATION = ("all", "all-xavier")
# Plot colours by kind: frozen image tower, fine-tuned, ours.
LABEL_OFFSETS = {"a5": (-6, -14), "xclip": (6, -14)}
COLORS = {"actionclip": "tab:orange", "xclip": "tab:red", "all": "tab:blue"}


def mean_and_std(values: list[float]) -> tuple[float, float]:
    """Mean and sample standard deviation (0 for a single value)."""
    return statistics.mean(values), statistics.stdev(values) if len(values) > 1 else 0.0


def values_of(records: list[dict], system: str, key: str | Callable[[dict], float]) -> list[float]:
    """One value for each finished run of a system, in the order of the seeds."""
    runs = [record for record in records if record["phase"] == "run" and record["system"] == system]
    read = key if callable(key) else lambda record: record[key]
    return [read(record) for record in sorted(runs, key=lambda record: record["seed"])]


def percent(values: list[float | None]) -> str:
    """`"61.3 ± 1.2"`, a bare `"19.1"` for a single value, a dash where there is none."""
    if not values or None in values:
        return "–"
    mean, std = mean_and_std(values)
    return f"{100 * mean:.1f} ± {100 * std:.1f}" if len(values) > 1 else f"{100 * mean:.1f}"


def markdown(header: list[str], rows: list[list[str]]) -> str:
    """A table with numbers to the right of their columns."""
    lines = [header, ["---"] + ["---:"] * (len(header) - 1), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def trade_off_table(records: list[dict]) -> str:
    rows = []
    for name in TRADE_OFF:
        supervised = values_of(records, name, "supervised")
        if supervised:
            parameters = values_of(records, name, "trained_parameters")[0]
            rate = values_of(records, name, "lr")[0]
            rows.append(
                [
                    SYSTEMS[name].title,
                    f"{parameters:,}",
                    percent(supervised),
                    percent(values_of(records, name, "zero_shot")),
                    "–" if rate is None else f"{rate:g}",
                    str(len(supervised)),
                ]
            )
    return markdown(["system", "trained parameters", "supervised", "zero-shot", "lr", "runs"], rows)


def prompts_of(name: str) -> str:
    """A row's name in the ablation, where Vita-CLIP is all prompts together."""
    return SYSTEMS[name].title.replace("Vita-CLIP", "All, vision and text")


def ablation_table(records: list[dict]) -> str:
    rows = []
    for name, frozen_projection in ABLATION.items():
        for row in (name, frozen_projection):
            supervised = values_of(records, row, "supervised") if row else []
            if supervised:
                parameters = values_of(records, row, "trained_parameters")[0]
                zero_shot = percent(values_of(records, row, "zero_shot"))
                rows.append([prompts_of(row), f"{parameters:,}", percent(supervised), zero_shot, str(len(supervised))])
    return markdown(["prompts", "trained parameters", "supervised", "zero-shot", "runs"], rows)


def initialisation_table(records: list[dict]) -> str:
    """Both starts of the summary attention, and their difference seed by seed."""
    rows, seeds = [], {}
    for name in INITIALISATION:
        runs = {r["seed"]: r for r in records if r["phase"] == "run" and r["system"] == name}
        seeds[name] = runs
        cells = [percent([runs[seed][key] for seed in sorted(runs)]) for key in ("supervised", "zero_shot")]
        title = "CLIP's attention init" if name == "all" else "Xavier uniform (released code)"
        rows.append([title, *cells, str(len(runs))])
    both = sorted(set(seeds["all"]) & set(seeds["all-xavier"]))
    if both:
        differences = [
            percent([seeds["all-xavier"][seed][key] - seeds["all"][seed][key] for seed in both])
            for key in ("supervised", "zero_shot")
        ]
        rows.append(["Xavier minus CLIP, same seed", *differences, str(len(both))])
    return markdown(["start of the summary attention", "supervised", "zero-shot", "runs"], rows)


def frames_series(records: list[dict], key: str) -> dict[int, list[float]]:
    """Accuracies of Vita-CLIP's runs for each number of test frames."""
    runs = [record["frames"] for record in records if record.get("frames") and record["system"] == "all"]
    counts = sorted({int(count) for run in runs for count in run})
    return {count: [run[str(count)][key] for run in runs] for count in counts}


def frames_table(records: list[dict]) -> str:
    supervised, zero_shot = (frames_series(records, key) for key in ("supervised", "zero_shot"))
    rows = [[str(count), percent(supervised[count]), percent(zero_shot[count])] for count in supervised]
    return markdown(["test frames (trained with 8)", "supervised", "zero-shot"], rows)


def search_table(records: list[dict]) -> str:
    rows = []
    for name, spec in SYSTEMS.items():
        found = {r["lr"]: r["validation"] for r in records if r["phase"] == "search" and r["system"] == name}
        if found and not isinstance(spec.lrs, str):
            cells = [f"{lr:g}: {percent([found[lr]])}" if lr in found else "–" for lr in spec.lrs]
            rows.append([spec.title, *cells])
    return markdown(["system", "low", "middle", "high"], rows)


def write_tables(path: Path, records: list[dict], setting: dict) -> None:
    clips = 300 * setting["train_copies"]
    tests = (
        f"{300 * setting['supervised_copies']:,} supervised and {60 * setting['zero_shot_copies']:,} zero-shot clips"
    )
    minutes = sum(record["cpu_seconds"] for record in records) / 60
    sections = {
        "Trade-off": trade_off_table(records),
        "Ablation": ablation_table(records),
        "Start of the summary attention": initialisation_table(records),
        "Frames at test time": frames_table(records),
        "Learning rates tried (supervised top-1 on validation clips)": search_table(records),
    }
    head = [
        "Top-1 in %, mean ± sample standard deviation over seeds.",
        f"{setting['steps']} steps of {setting['batch']} clips, the same {clips:,} training clips for all;",
        f"tests: the same {tests} for all.",
        f"{len(records)} finished runs, {minutes:.0f} minutes of processor time together.",
    ]
    text = " ".join(head) + "\n"
    path.write_text(text + "".join(f"\n## {title}\n\n{table}\n" for title, table in sections.items()))


def points(records: list[dict], name: str) -> dict[str, tuple[float, float]] | None:
    """Mean and standard deviation in % of a system's two accuracies; without an entry where it has none."""
    found = {}
    for key in ("supervised", "zero_shot"):
        values = values_of(records, name, key)
        if not values:
            return None
        if None not in values:
            mean, std = mean_and_std(values)
            found[key] = (100 * mean, 100 * std)
    return found


def plot_trade_off(axes, records: list[dict]) -> None:
    for name in TRADE_OFF:
        point, color = points(records, name), COLORS.get(name, "tab:gray")
        if point is None:
            continue
        (x, x_std), title = point["supervised"], SYSTEMS[name].title
        if "zero_shot" not in point:
            axes.axvline(x, color=color, linestyle=":", linewidth=1)
            place = {"xycoords": axes.get_xaxis_transform(), "rotation": 90, "va": "top", "ha": "right"}
            axes.annotate(f"{title} (no zero-shot)", (x, 0.98), **place)
            continue
        y, y_std = point["zero_shot"]
        axes.errorbar(x, y, y_std, x_std, "o", color=color, capsize=3)
        offset = LABEL_OFFSETS.get(name, (6, 6))
        side = "left" if offset[0] > 0 else "right"
        axes.annotate(title, (x, y), xytext=offset, textcoords="offset points", ha=side)
    axes.margins(0.15)
    axes.set(xlabel="supervised top-1, 300 trained scenes (%)", ylabel="zero-shot top-1, 60 held-out scenes (%)")


def plot_ablation(axes, records: list[dict]) -> None:
    names = [row for pair in ABLATION.items() for row in pair if row and points(records, row)]
    for shift, (key, label) in enumerate((("supervised", "supervised"), ("zero_shot", "zero-shot"))):
        values = [points(records, name)[key] for name in names]
        places = [index + 0.4 * shift - 0.2 for index in range(len(names))]
        axes.barh(places, [v for v, _ in values], 0.38, xerr=[s for _, s in values], capsize=2, label=label)
    axes.set_yticks(range(len(names)), [prompts_of(name) for name in names])
    axes.invert_yaxis()
    axes.set(xlabel="top-1 (%)")
    axes.legend()


def plot_frames(axes, records: list[dict]) -> None:
    for key, label in (("supervised", "supervised"), ("zero_shot", "zero-shot")):
        series = {count: mean_and_std(values) for count, values in frames_series(records, key).items()}
        means, stds = ([100 * pair[part] for pair in series.values()] for part in (0, 1))
        axes.errorbar(list(series), means, stds, fmt="o-", capsize=3, label=label)
        axes.set_xscale("log", base=2)
        axes.set_xticks(list(series), [str(count) for count in series])
    axes.axvline(8, color="tab:gray", linestyle=":", linewidth=1)
    axes.set(xlabel="frames at test time (trained with 8)", ylabel="top-1 (%)", ylim=(0, 100))
    axes.legend()


def write_plots(folder: Path, records: list[dict]) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figures = {
        "trade_off": (plot_trade_off, (6, 4.5)),
        "ablation": (plot_ablation, (7, 4.5)),
        "frames": (plot_frames, (5, 3.5)),
    }
    for name, (plot, size) in figures.items():
        figure, axes = pyplot.subplots(figsize=size, layout="constrained")
        plot(axes, records)
        # No software version inside: the same numbers give the same file.
        figure.savefig(folder / f"{name}.png", dpi=120, metadata={"Software": None})
        pyplot.close(figure)


def write_report(folder: Path, records: list[dict], setting: dict) -> None:
    """`tables.md` and three plots into the folder, of whatever runs are finished."""
    write_tables(folder / "tables.md", records, setting)
    write_plots(folder, records)
