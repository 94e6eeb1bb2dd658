"""The lists of an evaluation are found, and their names can be written."""

import hashlib
from dataclasses import replace
from pathlib import Path

import pytest

from vitaclip_hf.data.annotations import AnnotationError
from vitaclip_hf.evaluation.plan import plan_evaluation
from vitaclip_hf.evaluation.protocols import EvaluationError, load_protocol


def write(file: Path, lines: list[str]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(f"{line}\n" for line in lines))


def test_a_clone_of_vifi_clip(tmp_path):
    """`datasets_splits/hmdb_splits/val1.txt` beside the lists of other data sets, and `labels`."""
    for short in ("hmdb", "ucf"):
        for number in (1, 2, 3):
            lists = tmp_path / f"datasets_splits/{short}_splits"
            write(lists / f"val{number}.txt", [f"{short}{number}.avi 0", "b.avi 1"])
            write(lists / f"train{number}_few_shot_2.txt", ["t.avi 0", "u.avi 1"])
    write(tmp_path / "classes.txt", ["run", "walk"])
    write(tmp_path / "labels/hmdb_51_labels.csv", ["id,name", "0,run", "1,walk"])
    write(tmp_path / "labels/ucf_101_labels.csv", ["id,name", "0,Archery", "1,Diving", "2,Surfing"])
    plan = plan_evaluation(load_protocol("hmdb51-zero-shot"), tmp_path, tmp_path)
    assert [sample.name for sample in plan.videos] == ["hmdb1.avi", "b.avi", "hmdb2.avi", "hmdb3.avi"]
    assert plan.splits[0].table.class_names == ("run", "walk")
    for data_set, listed in (("k400", "k400_splits/val.txt"), ("ssv2", "ssv2_splits/validation.txt")):
        write(tmp_path / "datasets_splits" / listed, [f"{data_set}.mp4 0", "b.mp4 1"])
        plan = plan_evaluation(load_protocol(f"{data_set}-supervised"), tmp_path, tmp_path, tmp_path / "classes.txt")
        assert [sample.name for sample in plan.videos] == [f"{data_set}.mp4", "b.mp4"]


def test_names_that_are_not_utf8_are_escaped(tmp_path):
    (tmp_path / "l.txt").write_bytes(b"caf\xe9.mp4 run\nb.mp4 walk\n")
    plan = plan_evaluation(load_protocol("own-zero-shot"), tmp_path, tmp_path / "l.txt")
    assert [sample.name for sample in plan.videos] == ["caf\\xe9.mp4", "b.mp4"]
    assert plan.videos[0].path.endswith("caf\udce9.mp4")


# Base and novel classes

NAMES = ("run", "walk", "jump", "clap")


@pytest.fixture
def whole(tmp_path):
    """A list of all classes; video `v<n>` shows class n."""
    folder = tmp_path / "lists"
    write(folder / "hmdb_51_labels.csv", ["id,name", *(f"{n},{name}" for n, name in enumerate(NAMES))])
    write(folder / "hmdb51_val1.txt", [f"v{n}.avi {n}" for n in range(4)])
    return folder


@pytest.fixture
def base_to_novel():
    """A protocol that leaves the classes open."""
    return replace(load_protocol("hmdb51-base-to-novel"), base_classes=(), novel_classes=(), expected_videos={})


def parts_of(plan):
    return {
        split.name: [(sample.name, split.table.class_names[sample.label]) for sample in split.table.samples]
        for split in plan.splits
    }


PUBLISHED = {"base": [("v2.avi", "jump"), ("v3.avi", "clap")], "novel": [("v0.avi", "run"), ("v1.avi", "walk")]}


def test_without_class_files_it_is_an_own_split_and_says_so(tmp_path, whole, base_to_novel):
    plan = plan_evaluation(base_to_novel, tmp_path, whole)
    assert parts_of(plan)["base"] == [("v0.avi", "run"), ("v1.avi", "walk")]
    assert (plan.class_split.origin, plan.class_split.label, plan.class_split.files) == ("own split", "own split", {})
    assert plan.warnings[0].startswith("OWN SPLIT: ")
    assert plan_evaluation(load_protocol("own-zero-shot"), tmp_path, whole / "hmdb51_val1.txt").class_split is None


def test_class_files_that_are_given(tmp_path, whole, base_to_novel):
    base = tmp_path / "their_base.csv"
    base.write_text("id,name\n0,jump\n1,clap\n")
    plan = plan_evaluation(base_to_novel, tmp_path, whole, base_classes=base)
    assert parts_of(plan) == PUBLISHED
    assert plan.class_split.origin == "given" and plan.class_split.label == "classes of their_base.csv"
    assert plan.class_split.files["base"]["sha256"] == hashlib.sha256(base.read_bytes()).hexdigest()
    assert not any("OWN SPLIT" in warning for warning in plan.warnings)
    with pytest.raises(EvaluationError, match="`base_classes`"):
        plan_evaluation(load_protocol("hmdb51-supervised"), tmp_path, whole, base_classes=base)
    base.write_text("jump\nswim\n")
    with pytest.raises(AnnotationError, match="'swim'"):
        plan_evaluation(base_to_novel, tmp_path, whole, base_classes=base)


def test_class_file_beside_the_protocol(tmp_path, whole):
    (tmp_path / "classes").mkdir()
    (tmp_path / "classes/base.txt").write_text("jump\nclap\n")
    file = tmp_path / "mine.yaml"
    file.write_text(
        "lists: [hmdb51_val1.txt]\nclasses: [hmdb_51_labels.csv]\ntasks:\n  base-to-novel:\n"
        "    splits: [base, novel]\n    base_classes: classes/base.txt\n"
    )
    protocol = load_protocol(str(file))
    assert protocol.base_classes == ("jump", "clap") and protocol.to_dict()["base_classes"] == ["jump", "clap"]
    plan = plan_evaluation(protocol, tmp_path, whole)
    assert parts_of(plan) == PUBLISHED and plan.class_split.origin == "protocol"
    other = tmp_path / "other.txt"  # what is given wins
    other.write_text("walk\nclap\n")
    plan = plan_evaluation(protocol, tmp_path, whole, novel_classes=other)
    assert parts_of(plan)["novel"] == [("v1.avi", "walk"), ("v3.avi", "clap")]
    (tmp_path / "classes/base.txt").unlink()
    with pytest.raises(EvaluationError, match="`base_classes`"):
        load_protocol(str(file))


@pytest.mark.parametrize("numbers", ["within the part", "of the whole list"])
def test_lists_of_one_part_each(tmp_path, whole, numbers):
    """A list for each part, with its own numbers or those of all classes."""
    parts = {"base": ("jump", "clap"), "novel": ("run", "walk")}
    for part, names in parts.items():
        ids = [(names if numbers == "within the part" else NAMES).index(name) for name in names]
        lines = [f"v{NAMES.index(name)}.avi {number}" for name, number in zip(names, ids, strict=True)]
        write(whole / f"datasets_splits/base2novel_splits/hmdb_splits/{part}_val.txt", lines)
    protocol = replace(load_protocol("hmdb51-base-to-novel"), base_classes=parts["base"], novel_classes=parts["novel"])
    plan = plan_evaluation(protocol, tmp_path, whole)
    assert parts_of(plan) == PUBLISHED and set(plan.splits[0].files) == {"base_val.txt"} | (
        {"hmdb_51_labels.csv"} if numbers == "of the whole list" else set()
    )


# Counts of ViFi-CLIP's label files, and how many base classes are in the first half of the alphabet
@pytest.mark.parametrize(
    ("data_set", "base", "novel", "shared"),
    [("hmdb51", 26, 25, 1), ("ucf101", 51, 50, 30), ("ssv2", 87, 87, 43), ("k400", 200, 200, 90)],
)
def test_published_classes(data_set, base, novel, shared):
    protocol = load_protocol(f"{data_set}-base-to-novel")
    assert (len(set(protocol.base_classes)), len(set(protocol.novel_classes))) == (base, novel)
    names = sorted({*protocol.base_classes, *protocol.novel_classes}, key=str.lower)
    assert len(names) == base + novel and len({*names[: (len(names) + 1) // 2]} & {*protocol.base_classes}) == shared
    if data_set == "hmdb51":  # of ViFi-CLIP's files
        assert {"pour", "wave"} <= set(protocol.base_classes) and {"hug", "brush hair"} <= set(protocol.novel_classes)
