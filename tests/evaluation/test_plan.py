"""The lists of an evaluation are found, and their names can be written."""

import hashlib
from dataclasses import replace

import pytest

from vitaclip_hf.data.annotations import AnnotationError
from vitaclip_hf.evaluation.plan import plan_evaluation
from vitaclip_hf.evaluation.protocols import ProtocolError, load_protocol


def test_lists_in_the_subfolders_of_a_clone(tmp_path):
    for number in (1, 2, 3):
        listed = tmp_path / f"clone/datasets_splits/hmdb_splits/hmdb51_val{number}.txt"
        listed.parent.mkdir(parents=True, exist_ok=True)
        listed.write_text(f"a{number}.avi 0\nb{number}.avi 1\n")
    (tmp_path / "clone/labels").mkdir()
    (tmp_path / "clone/labels/hmdb_51_labels.csv").write_text("id,name\n0,run\n1,walk\n")
    plan = plan_evaluation(load_protocol("hmdb51-zero-shot"), tmp_path, tmp_path / "clone")
    assert [sample.name for sample in plan.videos] == [f"{name}{n}.avi" for n in (1, 2, 3) for name in "ab"]
    assert plan.splits[0].table.class_names == ("run", "walk")
    (tmp_path / "clone/other").mkdir()
    (tmp_path / "clone/other/hmdb51_val1.txt").write_text("x.avi 0\ny.avi 1\n")
    with pytest.raises(AnnotationError, match="no list of its own for split 1"):
        plan_evaluation(load_protocol("hmdb51-zero-shot"), tmp_path, tmp_path / "clone")


@pytest.mark.parametrize("start", ["clone", "clone/datasets_splits"])
def test_a_clone_of_vifi_clip(tmp_path, start):
    """`datasets_splits/hmdb_splits/val1.txt` beside the lists of other data sets, and `labels`."""
    for short in ("hmdb", "ucf"):
        folder = tmp_path / f"clone/datasets_splits/{short}_splits"
        folder.mkdir(parents=True)
        for number in (1, 2, 3):
            (folder / f"val{number}.txt").write_text(f"{short}{number}.avi 0\nb{number}.avi 1\n")
            (folder / f"train{number}_few_shot_2.txt").write_text("t.avi 0\nu.avi 1\n")
    (tmp_path / "clone/labels").mkdir()
    (tmp_path / "clone/labels/hmdb_51_labels.csv").write_text("id,name\n0,run\n1,walk\n")
    (tmp_path / "clone/labels/ucf_101_labels.csv").write_text("id,name\n0,Archery\n1,Diving\n2,Surfing\n")
    plan = plan_evaluation(load_protocol("hmdb51-zero-shot"), tmp_path, tmp_path / start)
    assert [sample.name for sample in plan.videos] == [f"{name}{n}.avi" for n in (1, 2, 3) for name in ("hmdb", "b")]
    assert plan.splits[0].table.class_names == ("run", "walk")


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
    folder.mkdir()
    (folder / "hmdb_51_labels.csv").write_text("id,name\n" + "".join(f"{n},{name}\n" for n, name in enumerate(NAMES)))
    (folder / "hmdb51_val1.txt").write_text("".join(f"v{n}.avi {n}\n" for n in range(4)))
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
    with pytest.raises(AnnotationError, match="are for base-to-novel, not for hmdb51-supervised"):
        plan_evaluation(load_protocol("hmdb51-supervised"), tmp_path, whole, base_classes=base)
    base.write_text("jump\nswim\n")
    with pytest.raises(AnnotationError, match="'swim' is none of the 4 classes"):
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
    with pytest.raises(ProtocolError, match="`base_classes` needs a list of names or a class file"):
        load_protocol(str(file))


def test_class_files_found_by_content(tmp_path, whole, base_to_novel):
    labels = whole / "labels"
    labels.mkdir()
    (labels / "B2N_hmdb_base.csv").write_text("id,name\n0,jump\n1,clap\n")
    (labels / "B2N_hmdb_novel.csv").write_text("id,name\n0,run\n1,walk\n")
    (labels / "B2N_ucf_base.csv").write_text("id,name\n0,Dive\n1,Archery\n")
    plan = plan_evaluation(base_to_novel, tmp_path, whole)
    assert parts_of(plan) == PUBLISHED and plan.class_split.origin == "found"
    (labels / "other_hmdb_base.csv").write_text("id,name\n0,jump\n1,run\n")
    with pytest.raises(AnnotationError, match="several class files of the base classes"):
        plan_evaluation(base_to_novel, tmp_path, whole)


@pytest.mark.parametrize("numbers", ["within the part", "of the whole list"])
def test_lists_of_one_part_each(tmp_path, whole, numbers, base_to_novel):
    """A layout with a list and a class file for each part; train lists beside them are not taken."""
    splits, labels = whole / "base2novel_splits/hmdb_splits", whole / "labels"
    splits.mkdir(parents=True)
    labels.mkdir()
    for part, names in (("base", ("jump", "clap")), ("novel", ("run", "walk"))):
        (labels / f"hmdb_{part}.csv").write_text("id,name\n" + "".join(f"{n},{name}\n" for n, name in enumerate(names)))
        ids = [names.index(name) if numbers == "within the part" else NAMES.index(name) for name in names]
        lines = [f"v{NAMES.index(name)}.avi {number}\n" for name, number in zip(names, ids, strict=True)]
        (splits / f"val_{part}.txt").write_text("".join(lines))
        (splits / f"train_{part}.txt").write_text("t0.avi 0\nt1.avi 1\n")
    plan = plan_evaluation(base_to_novel, tmp_path, whole)
    assert parts_of(plan) == PUBLISHED and plan.class_split.origin == "found"
    (labels / "hmdb_base.csv").unlink()
    with pytest.raises(AnnotationError, match="no class file says which these are; give it as `base_classes`"):
        plan_evaluation(base_to_novel, tmp_path, whole)


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


def test_published_classes_of_a_list(tmp_path):
    """Class files of other data sets beside the list do not matter."""
    protocol = load_protocol("hmdb51-base-to-novel")
    names = sorted({*protocol.base_classes, *protocol.novel_classes})
    (tmp_path / "hmdb_51_labels.csv").write_text("id,name\n" + "".join(f"{n},{name}\n" for n, name in enumerate(names)))
    lines = [f"v{n}.avi {names.index(name)}\n" for n, name in enumerate(["pour", "wave", "hug", "brush hair"])]
    (tmp_path / "hmdb51_val1.txt").write_text("".join(lines))
    for other in ("kinetics", "ssv2"):
        (tmp_path / f"{other}_base_labels.csv").write_text(f"id,name\n0,{other}\n1,other\n")
    plan = plan_evaluation(protocol, tmp_path, tmp_path)
    assert plan.class_split.origin == "protocol"
    # From ViFi-CLIP's files: pouring and waving are base, hugging and brushing hair are novel.
    assert {split.name: [sample.name for sample in split.table.samples] for split in plan.splits} == {
        "base": ["v0.avi", "v1.avi"],
        "novel": ["v2.avi", "v3.avi"],
    }


def test_a_list_below_counts_only_with_the_data_set_in_its_name(tmp_path):
    """K400's `val.txt` is not K600's."""
    folder = tmp_path / "datasets_splits/k400_splits"
    folder.mkdir(parents=True)
    (folder / "val.txt").write_text("a.mp4 0\nb.mp4 1\n")
    (tmp_path / "datasets_splits/ssv2_splits").mkdir()
    (tmp_path / "datasets_splits/ssv2_splits/validation.txt").write_text("1.webm 0\n2.webm 1\n3.webm 1\n")
    (tmp_path / "classes.txt").write_text("run\nwalk\n")
    for data_set, count in (("k400", 2), ("ssv2", 3)):
        assert len(plan_evaluation(load_protocol(f"{data_set}-supervised"), tmp_path, tmp_path).videos) == count
    with pytest.raises(AnnotationError, match="name the file"):
        plan_evaluation(load_protocol("k600-supervised"), tmp_path, tmp_path)
