"""The paper in miniature, run once: an interrupted set continues where it was."""

import json
from dataclasses import asdict
from pathlib import Path

import miniature
import miniature_report as report
import pytest
from miniature import Results, Setting, Study, main
from miniature_systems import World


COPIES = ("train", "validation", "trained", "objects", "motions", "both")
TINY = Setting(
    steps=4, batch=4, points=2, precision="float32", stills=1, **dict.fromkeys((f"{kind}_copies" for kind in COPIES), 1)
)
TINY_FLAGS = [f"--{name.replace('_', '-')}={value}" for name, value in asdict(TINY).items()]


def without_times(records: list[dict]) -> list[dict]:
    drop = ("date", "seconds", "cpu_seconds")
    kept = [{k: v for k, v in record.items() if k not in drop} for record in records]
    for record in kept:
        record["curve"] = [{k: v for k, v in p.items() if k != "train_cpu_seconds"} for p in record["curve"]]
    return sorted(kept, key=lambda record: (record["phase"], record["system"], record["seed"], record["lr"] or 0))


def test_interrupted_set_continues_where_it_was_and_ends_the_same(tmp_path, monkeypatch):
    study = Study(World(Path(miniature.__file__).parent / "clip"), TINY)
    monkeypatch.setattr(miniature, "Study", lambda world, setting: study)
    monkeypatch.setattr(miniature, "LARGEST_GRID", 4)
    flags = [*TINY_FLAGS, "--only", "frozen", "linear", "--seeds", "0", "1"]
    main([*flags, "--output", str(tmp_path / "whole")])
    whole = json.loads((tmp_path / "whole" / "results.json").read_text())["records"]
    assert [(r["phase"], r["seed"]) for r in whole] == [("run", 0), *[("search", 99)] * 4, ("run", 0), ("run", 1)]
    assert whole[-1]["curve"][-1]["objects"] is None and whole[-1]["trained_parameters"] == 96 * 36 + 36
    assert [point["step"] for point in whole[-1]["curve"]] == [2, 4]
    assert {"date", "revision", "versions", "machine", "seconds"} <= set(whole[-1])

    monkeypatch.setattr(report, "write_plots", lambda *_: None)  # they take most of the time
    trained, train = [], study.train

    def killed(*arguments, **keywords):
        trained.append(arguments)
        if len(trained) == 5:
            raise KeyboardInterrupt
        return train(*arguments, **keywords)

    monkeypatch.setattr(study, "train", killed)
    with pytest.raises(KeyboardInterrupt):
        main([*flags, "--output", str(tmp_path / "again")])
    assert len(Results(tmp_path / "again", TINY).read()) == 5
    main([*flags, "--output", str(tmp_path / "again")])
    assert len(trained) == 7  # only the run that was killed is done again
    assert without_times(Results(tmp_path / "again", TINY).read()) == without_times(whole)
    assert report.systems_table(whole, ["frozen"]).splitlines()[2].startswith("| Frozen CLIP | 0 | ")
