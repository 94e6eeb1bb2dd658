"""Protocols: every file loads, fields can be overridden, mistakes name the nearest; lists of the official sizes."""

from pathlib import Path

import pytest

from vitaclip_hf.data.annotations import AnnotationError
from vitaclip_hf.evaluation.plan import plan_evaluation
from vitaclip_hf.evaluation.protocols import EvaluationError, load_protocol
from vitaclip_hf.model.frame_sampling import ClipSpecification


UCF_COUNTS = {"1": 3783, "2": 3734, "3": 3696}


def test_every_protocol_is_there():
    expected = {
        *(f"{data}-{task}" for data in ("hmdb51", "ucf101") for task in ("zero-shot", "supervised")),
        *(f"{data}-{task}" for data in ("hmdb51", "ucf101", "k400", "ssv2") for task in ("few-shot", "base-to-novel")),
        *("k600-zero-shot", "k400-supervised", "k600-supervised", "ssv2-supervised"),
        *("own-zero-shot", "own-supervised"),
    }
    with pytest.raises(EvaluationError, match="'hmdb-zeroshot'; did you mean 'hmdb51-zero-shot'") as listing:
        load_protocol("hmdb-zeroshot")
    assert set(str(listing.value).partition("known: ")[2].rstrip(").").split(", ")) == expected
    protocols = {name: load_protocol(name) for name in expected}
    assert protocols["hmdb51-zero-shot"].expected_videos == {"1": 1530, "2": 1530, "3": 1530}
    assert protocols["ucf101-zero-shot"].expected_videos == UCF_COUNTS
    assert protocols["ucf101-zero-shot"].spelling == "camel"
    assert (protocols["k600-zero-shot"].splits, protocols["k600-zero-shot"].expected_classes) == (("1", "2", "3"), 160)
    assert {protocols[name].text for name in protocols if name.endswith("zero-shot")} == {"zero-shot"}
    assert (protocols["hmdb51-few-shot"].splits, protocols["hmdb51-few-shot"].text) == (("1",), "supervised")


@pytest.mark.parametrize(
    ("changes", "token"),
    [
        ({"num_frame": 8}, "'num_frames'"),
        ({"num_views": 0}, "`num_views`"),
        ({"sampling": "dense_random"}, "random"),
        ({"spelling": "kebab"}, "`spelling`"),
        ({"splits": ["4"]}, "'4'"),
        ({"expected_videos": 5}, "`expected_videos`"),
    ],
)
def test_values_that_cannot_be(changes, token):
    with pytest.raises(EvaluationError, match=token):
        load_protocol("hmdb51-zero-shot").overridden(changes)


def test_figures_of_another_part_bear_its_name():
    """`--subset validation` of one's own data is no result on a test split; official splits keep their numbers."""
    own = load_protocol("own-supervised").overridden({"subset": "validation", "num_views": 2})
    assert (own.subset, own.splits, own.num_views) == ("validation", ("validation",), 2)
    assert load_protocol("ssv2-supervised").overridden({"subset": "test"}).splits == ("test",)
    assert load_protocol("hmdb51-zero-shot").overridden({"subset": "train"}).splits == ("1", "2", "3")
    with pytest.raises(EvaluationError, match="`subset` must be one of"):
        load_protocol("own-supervised").overridden({"subset": "half"})


def test_open_fields_are_the_checkpoints():
    own = ClipSpecification(num_frames=16, sampling="dense", frame_stride=4)
    protocol = load_protocol("own-zero-shot").overridden({"frame_stride": 2, "num_views": 4, "num_spatial_views": 3})
    assert protocol.resolved(own).clip_specification == ClipSpecification(16, "dense", 2, 4, 3)


def test_a_file_of_ones_own(tmp_path):
    file = tmp_path / "10:30" / "mine.yaml"
    file.parent.mkdir()
    file.write_text("num_views: 2\ntasks:\n  zero-shot:\n    lists: [a.txt]\n")
    protocol = load_protocol(str(file))
    assert (protocol.name, protocol.num_views, protocol.lists) == ("mine-zero-shot", 2, ("a.txt",))
    assert load_protocol(f"{file}:zero-shot") == protocol
    with pytest.raises(EvaluationError, match="mine-few-shot|zero-shot"):
        load_protocol(f"{file}:few-shot")
    with pytest.raises(ValueError, match=r"none\.yaml"):
        load_protocol(str(tmp_path / "none.yaml"))


def write_list(file: Path, count: int, classes: int, prefix: str = "v") -> None:
    file.write_text("".join(f"{prefix}_{index}.avi {index * classes // count}\n" for index in range(count)))


def write_classes(file: Path, names: list[str]) -> None:
    file.write_text("id,name\n" + "".join(f'{index},"{name}"\n' for index, name in enumerate(names)))


def test_lists_of_hmdb51s_size(tmp_path):
    """1,530 videos in each of three lists that share some; classes by number, names in a file beside."""
    names = sorted({*(parts := load_protocol("hmdb51-base-to-novel")).base_classes, *parts.novel_classes})
    write_classes(tmp_path / "hmdb_51_labels.csv", [name.replace(" ", "_") for name in names])
    for split in (1, 2, 3):
        write_list(tmp_path / f"hmdb51_val{split}.txt", 1530, 51, prefix="shared" if split < 3 else "own")
    plan = plan_evaluation(load_protocol("hmdb51-zero-shot"), tmp_path, tmp_path)
    assert [split.listed for split in plan.splits] == [1530] * 3 and plan.warnings == []
    assert len(plan.videos) == 2 * 1530  # each video once, although two splits share theirs
    assert plan.splits[0].texts("as-given")[:2] == ["brush hair", "cartwheel"]
    assert set(plan.splits[1].files) == {"hmdb51_val2.txt", "hmdb_51_labels.csv"}
    halves = plan_evaluation(load_protocol("hmdb51-base-to-novel"), tmp_path, tmp_path)
    assert [(split.name, split.text, split.listed) for split in halves.splits] == [
        ("base", "supervised", 780),
        ("novel", "zero-shot", 750),
    ]
    assert [len(split.table.class_names) for split in halves.splits] == [26, 25] and halves.warnings == []


def test_ucf101s_own_files(tmp_path):
    """3,783, 3,734 and 3,696 videos without labels; classInd.txt counts from 1 and is in CamelCase."""
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
    names = [f"Apply{letters[index // 26]}eye{letters[index % 26]}akeup" for index in range(101)]
    (tmp_path / "classInd.txt").write_text("".join(f"{index} {name}\n" for index, name in enumerate(names, 1)))
    for split, count in UCF_COUNTS.items():
        lines = [f"{names[i % 101]}/v_{names[i % 101]}_g{i:05d}_c{split}.avi\n" for i in range(count)]
        (tmp_path / f"testlist0{split}.txt").write_text("".join(lines))
    plan = plan_evaluation(load_protocol("ucf101-zero-shot"), tmp_path, tmp_path)
    assert {split.name: split.listed for split in plan.splits} == UCF_COUNTS and plan.warnings == []
    assert plan.splits[2].table.samples[100].label == 100
    assert plan.splits[0].texts("camel")[0] == "Apply Aeye Aakeup"


def test_k600_zero_shot_has_classes_of_its_own_in_each_split(tmp_path):
    for split in (1, 2, 3):
        write_classes(tmp_path / f"ZS_split{split}_K600.csv", [f"{index} of {split}, x" for index in range(160)])
        write_list(tmp_path / f"k600_zero_shot_split{split}.txt", 320, 160)
    plan = plan_evaluation(load_protocol("k600-zero-shot"), tmp_path, tmp_path)
    assert [len(split.table.class_names) for split in plan.splits] == [160] * 3 and plan.warnings == []
    assert plan.splits[1].table.class_names[7] == "7 of 2, x"


def test_limit_is_spread_over_the_list_and_told(tmp_path):
    write_classes(tmp_path / "hmdb_51_labels.csv", [f"class {index}" for index in range(51)])
    write_list(tmp_path / "hmdb51_val1.txt", 1530, 51)
    protocol = load_protocol("hmdb51-zero-shot").overridden({"splits": ["1"]})
    plan = plan_evaluation(protocol, tmp_path, tmp_path, limit=51)
    assert [sample.label for sample in plan.splits[0].table.samples] == list(range(51))
    assert plan.warnings == ["split 1: only 51 of 1,530 videos (`limit`)"]
    whole = plan_evaluation(protocol, tmp_path, tmp_path)
    assert plan.splits[0].sha256 == whole.splits[0].sha256  # of the list, not of what was taken from it
    with pytest.raises(EvaluationError, match="`limit`"):
        plan_evaluation(protocol, tmp_path, tmp_path, limit=0)


def test_one_list_does_not_pass_for_three_splits(tmp_path):
    (tmp_path / "test.txt").write_text("a.avi run\nb.avi walk\n")
    for annotations in (tmp_path, tmp_path / "test.txt"):
        with pytest.raises(AnnotationError, match="split 1"):
            plan_evaluation(load_protocol("hmdb51-zero-shot"), tmp_path, annotations)
    one = load_protocol("hmdb51-zero-shot").overridden({"splits": ["1"]})
    assert plan_evaluation(one, tmp_path, tmp_path / "test.txt").splits[0].listed == 2


@pytest.mark.parametrize(
    ("content", "token"),
    [
        (b"num_view: 2\ntasks:\n  zero-shot:\n", "'num_view'; did you mean 'num_views'"),
        (b"tasks:\n  one-shot:\n", "`task`"),
        (b"tasks:\n  zero-shot:\n    task: supervised\n", "'task'"),
        (b"num_views: 2\n", "`tasks:`"),
        (b"a: [\n", "not YAML"),
        (b"tasks:\n  zero-shot: 3\n", "'zero-shot'"),
        (b"tasks:\n  base-to-novel:\n    splits: [1]\n", "base and novel"),
        *((f"num_views: {n}\ntasks:\n  zero-shot:\n".encode(), "^own-zero-shot: `num_views`") for n in ("", 0)),
        (b"tasks:\n  zero-shot:\n    splits: ['a/" + b"x" * 50_000 + b"']\n", "`splits`"),
        (b'tasks:\n  zero-shot:\n    splits: ["a/\\n\\e[2J"]\n', "`splits`"),
    ],
)
def test_file_that_does_not_hold_together(tmp_path, content, token):
    (tmp_path / "own.yaml").write_bytes(content)
    with pytest.raises(ValueError, match=token) as error:
        load_protocol(str(tmp_path / "own.yaml"))
    assert str(error.value).isprintable() and len(str(error.value)) < 1100
