"""Results of evaluations, written by hand. For the tests of comparisons and averages, and of their commands."""

import json
from pathlib import Path
from statistics import harmonic_mean

import pyarrow
import pyarrow.parquet


def write_answers(
    folder, ids, status=None, labels=(0, 1, 2), paths=("a", "b", "c"), row="vita_clip", **protocol
) -> Path:
    """A results folder with the answers of one row for each video of one split; returns its `results.json`."""
    folder.mkdir()
    count = len(paths)
    columns = {
        "split": ["1"] * count,
        "path": list(paths),
        "label": list(labels),
        "status": status or ["ok"] * count,
        f"{row}_ids": ids,
    }
    pyarrow.parquet.write_table(pyarrow.table(columns), folder / "predictions.parquet")
    classes = protocol.pop("classes", ["x", "y", "z"])
    splits = {"1": {"classes": dict(zip(classes, classes, strict=True))}}
    model = {"name": folder.name, "sha256": folder.name, "dtype": protocol.pop("dtype", "float32")}
    about = {"splits": splits, "model": model, "limited": protocol.pop("limited", None), "rows": {row: {}}}
    about["class_split"] = protocol.pop("class_split", None)
    (folder / "results.json").write_text(json.dumps({"protocol": {"name": "mini", "num_views": 1} | protocol} | about))
    return folder / "results.json"


def write_seed(file, base, novel, name, **changes) -> Path:
    """The `results.json` of a base-to-novel evaluation with these accuracies."""

    def figures(value):
        return {"top1": value, "top5": 1.0, "mean_class": value}

    row = {"splits": {"base": figures(base), "novel": figures(novel)}}
    means = zip(figures(base).items(), figures(novel).values(), strict=True)
    row |= {name: {"harmonic_mean": harmonic_mean([a, b])} for (name, a), b in means}
    splits = {split: {"list_sha256": split} for split in ("base", "novel")}
    content = {
        "protocol": {"name": "mini-base-to-novel", "num_views": 1},
        "limited": None,
        "rows": {"vita_clip": row},
        "splits": splits,
        "model": {"name": name, "sha256": name, "dtype": "float32"},
    }
    file.write_text(json.dumps(content | changes))
    return file
