"""Protocols: every file loads, fields can be overridden, mistakes name the nearest; lists of the official sizes."""

from pathlib import Path

import pytest

from vitaclip_hf.data.annotations import AnnotationError
from vitaclip_hf.evaluation.plan import plan_evaluation
from vitaclip_hf.evaluation.protocols import OPTIONS, Protocol, ProtocolError, all_protocols, load_protocol
from vitaclip_hf.model.frame_sampling import ClipSpecification


UCF_COUNTS = {"1": 3783, "2": 3734, "3": 3696}


def test_every_protocol_of_the_issue_is_there():
    protocols = all_protocols()
    expected = {
        *(f"{data}-{task}" for data in ("hmdb51", "ucf101") for task in ("zero-shot", "supervised")),
        *(f"{data}-{task}" for data in ("hmdb51", "ucf101", "k400", "ssv2") for task in ("few-shot", "base-to-novel")),
        *("k600-zero-shot", "k400-supervised", "k600-supervised", "ssv2-supervised"),
        *("own-zero-shot", "own-supervised"),
    }
    assert set(protocols) == expected
    assert protocols["hmdb51-zero-shot"].expected_videos == {"1": 1530, "2": 1530, "3": 1530}
    assert protocols["ucf101-zero-shot"].expected_videos == UCF_COUNTS
    assert protocols["ucf101-zero-shot"].spelling == "camel"
    assert (protocols["k600-zero-shot"].splits, protocols["k600-zero-shot"].expected_classes) == (("1", "2", "3"), 160)
    assert {protocols[name].text for name in protocols if name.endswith("zero-shot")} == {"zero-shot"}
    few = load_protocol("hmdb51-few-shot").overridden({"shots": 2})
    assert (few.shots, few.splits, few.text) == (2, ("1",), "supervised")


def test_novel_classes_are_zero_shot_because_they_have_no_contexts():
    protocol = load_protocol("ucf101-base-to-novel")
    assert [protocol.text_side(split) for split in protocol.splits] == ["supervised", "zero-shot"]


def test_overriding():
    protocol = load_protocol("k400-supervised").overridden(
        {"frames": 16, "views": 4, "spatial_views": 3, "templates": ["{}", "a {}."], "text": "zero-shot"}
    )
    assert (protocol.frames, protocol.views, protocol.spatial_views, protocol.text) == (16, 4, 3, "zero-shot")
    assert protocol.templates == ("{}", "a {}.") and protocol.stride == 16
    one = load_protocol("ucf101-zero-shot").overridden({"splits": [2]})
    assert one.splits == ("2",) and one.split_number("2") == 2


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"frame": 8}, "unknown field 'frame'; did you mean 'frames'"),
        ({"views": 0}, "`views` must be a whole number of at least 1"),
        ({"views": "many"}, "`views` must be a whole number, got 'many'"),
        ({"spatial_views": 2}, "must be 1 .centre. or 3"),
        ({"templates": ["no place"]}, "need {} where"),
        ({"sampling": "dense_random"}, "is random"),
        ({"sampling": "sparse"}, "one of uniform, dense"),
        ({"spelling": "kebab"}, "one of as-given, camel"),
        ({"splits": ["4"]}, "no split '4'; its splits are 1, 2, 3"),
        ({"splits": ["1", "1"]}, "different names"),
        ({"expected_videos": 5}, "a number for each split"),
    ],
)
def test_values_that_cannot_be(changes, message):
    with pytest.raises(ProtocolError, match=message):
        load_protocol("hmdb51-zero-shot").overridden(changes)


def test_figures_of_another_part_bear_its_name():
    """`--subset validation` of one's own data is no result on a test split; official splits keep their numbers."""
    own = load_protocol("own-supervised").overridden({"subset": "validation", "views": 2})
    assert (own.subset, own.splits, own.views) == ("validation", ("validation",), 2)
    assert load_protocol("ssv2-supervised").overridden({"subset": "test"}).splits == ("test",)
    assert load_protocol("hmdb51-zero-shot").overridden({"subset": "train"}).splits == ("1", "2", "3")
    with pytest.raises(ProtocolError, match="`subset` must be one of"):
        load_protocol("own-supervised").overridden({"subset": "half"})


def test_open_fields_are_the_checkpoints():
    own = ClipSpecification(num_frames=16, sampling="dense", frame_stride=4)
    protocol = load_protocol("own-zero-shot").overridden({"stride": 2, "views": 4, "spatial_views": 3})
    with pytest.raises(ProtocolError, match="leaves `frames`, `stride` or `sampling` open"):
        _ = protocol.clip_specification
    assert protocol.resolved(own).clip_specification == ClipSpecification(16, "dense", 2, 4, 3)


def test_options_are_the_protocols_fields():
    expected = {"frames": int, "stride": int, "sampling": str, "views": int, "spatial_views": int, "templates": tuple}
    expected |= {"spelling": str, "text": str, "splits": tuple, "subset": str, "shots": int}
    assert expected == OPTIONS


def test_unknown_protocol_names_the_nearest():
    with pytest.raises(ProtocolError, match="'hmdb-zeroshot'; did you mean 'hmdb51-zero-shot'"):
        load_protocol("hmdb-zeroshot")


def test_a_file_of_ones_own(tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text("views: 2\ntasks:\n  zero-shot:\n    lists: [a.txt]\n")
    protocol = load_protocol(str(file))
    assert (protocol.name, protocol.views, protocol.lists) == ("mine-zero-shot", 2, ("a.txt",))
    assert load_protocol(f"{file}:zero-shot") == protocol
    for content, message in {
        "tasks:\n  zero-shot:\n    veiws: 2\n": "unknown field 'veiws'; did you mean 'views'",
        "tasks:\n  one-shot:\n": "`task` must be one of",
        "tasks:\n  zero-shot:\n    task: supervised\n": "`task` is not a field",
        "name: x\ntasks:\n  zero-shot:\n": "`name` is not a field",
        "views: 2\n": "needs `tasks:`",
        "a: [\n": "is not YAML",
    }.items():
        file.write_text(content)
        with pytest.raises(ProtocolError, match=message):
            load_protocol(str(file))
    with pytest.raises(ProtocolError, match="cannot be read"):
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


def test_hmdb51s_own_folder(tmp_path):
    for name in ("brush_hair", "climb"):
        for split in (1, 2, 3):
            lines = [f"{name}_{index}.avi {(index + split) % 3}\n" for index in range(6 + split)]
            (tmp_path / f"{name}_test_split{split}.txt").write_text("".join(lines))
    plan = plan_evaluation(load_protocol("hmdb51-zero-shot"), tmp_path, tmp_path)
    for split in plan.splits:
        number = int(split.name)
        tests = [index for index in range(6 + number) if (index + number) % 3 == 2]
        expected = [f"{name}_{index}.avi" for name in ("brush_hair", "climb") for index in tests]
        assert [Path(sample.name).name for sample in split.table.samples] == expected
    assert "split 1: 2 classes, but the protocol's list has 51" in plan.warnings
    assert any("videos, but the protocol's list has 1,530" in warning for warning in plan.warnings)


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
    with pytest.raises(AnnotationError, match="limit"):
        plan_evaluation(protocol, tmp_path, tmp_path, limit=0)


def test_one_list_does_not_pass_for_three_splits(tmp_path):
    (tmp_path / "test.txt").write_text("a.avi run\nb.avi walk\n")
    for annotations in (tmp_path, tmp_path / "test.txt"):
        with pytest.raises(AnnotationError, match="no list of its own for split 1 .hmdb51_val1.txt."):
            plan_evaluation(load_protocol("hmdb51-zero-shot"), tmp_path, annotations)
    one = load_protocol("hmdb51-zero-shot").overridden({"splits": ["1"]})
    assert plan_evaluation(one, tmp_path, tmp_path / "test.txt").splits[0].listed == 2


def test_protocol_is_plain_data():
    protocol = load_protocol("ucf101-zero-shot")
    again = {key: tuple(value) if isinstance(value, list) else value for key, value in protocol.to_dict().items()}
    assert Protocol(**again) == protocol


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"tasks:\n  zero-shot:\n    expected_videos: {1: many}\n", "`expected_videos` must give a number"),
        (b"tasks:\n  zero-shot: 3\n", "needs fields"),
        (b"tasks:\n  base-to-novel:\n    splits: [1]\n", "base and novel"),
        (b"tasks:\n  zero-shot:\n    splits: [a/b]\n", "'a/b' cannot name a split"),
        (b"views:\ntasks:\n  zero-shot:\n", "`views` must be a whole number"),
        (b"\xff\xfe\x00", "is not YAML"),
        (b"tasks:\n  zero-shot:\n    splits: ['a/" + b"x" * 50_000 + b"']\n", "cannot name a split"),
        (b'tasks:\n  zero-shot:\n    splits: ["a/\\n\\e[2J"]\n', "cannot name a split"),
    ],
)
def test_file_that_does_not_hold_together(tmp_path, content, message):
    (tmp_path / "own.yaml").write_bytes(content)
    with pytest.raises(ProtocolError, match=message) as error:
        load_protocol(str(tmp_path / "own.yaml"))
    assert str(error.value).isprintable() and len(str(error.value)) < 1100
