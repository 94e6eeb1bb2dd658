"""From data arguments to videos: what each source honours, and that equal lists give equal selections."""

import datasets
import drawn_clips
import pytest
from transformers.utils import logging

from vitaclip_hf.data.annotations import AnnotationTable
from vitaclip_hf.data.video_sources import HubVideos
from vitaclip_hf.training import run as train_script
from vitaclip_hf.training.arguments import DataArguments
from vitaclip_hf.training.clip_datasets import warn_of_directions
from vitaclip_hf.training.training_data import read_training_data


NAMES = ("blinking", "growing", "left", "right")


@pytest.fixture(autouse=True, scope="module")
def cache(tmp_path_factory):
    """What `datasets` prepares goes to a folder of the test."""
    before = datasets.config.HF_DATASETS_CACHE
    datasets.config.HF_DATASETS_CACHE = tmp_path_factory.mktemp("cache")
    yield
    datasets.config.HF_DATASETS_CACHE = before


@pytest.fixture(scope="module")
def content(tmp_path_factory) -> bytes:
    return drawn_clips.write(tmp_path_factory.mktemp("video") / "0.mp4", count=4, size=(32, 32)).read_bytes()


def folder_of(path, content, **videos_of_split) -> str:
    """A folder of class folders below each split, with so many videos of each class."""
    for split, count in videos_of_split.items():
        for name in NAMES:
            (path / split / name).mkdir(parents=True)
            for number in range(count):
                (path / split / name / f"{number}.mp4").write_bytes(content)
    return str(path)


@pytest.fixture(scope="module")
def train_and_test(content, tmp_path_factory) -> str:
    return folder_of(tmp_path_factory.mktemp("two"), content, train=5, test=2)


@pytest.fixture(scope="module")
def all_splits(content, tmp_path_factory) -> str:
    return folder_of(tmp_path_factory.mktemp("three"), content, train=3, validation=1, test=1)


def listed(part: AnnotationTable | HubVideos | None) -> list[tuple[str, int | None, str]] | None:
    table = part.table if isinstance(part, HubVideos) else part
    return None if table is None else [(sample.name, sample.label, sample.split) for sample in table.samples]


@pytest.mark.parametrize(
    "chosen",
    [
        {},
        {"class_subset": "base", "shots": 2},
        {"validation_share": 0.4},
        {"validation_share": 0.4, "class_subset": "novel", "shots": 2},
    ],
    ids=str,
)
@pytest.mark.parametrize("splits", ["train_and_test", "all_splits"])
def test_a_data_set_selects_as_a_folder_does(splits, chosen, request):
    folder = request.getfixturevalue(splits)
    files = read_training_data(DataArguments(folder, **chosen), seed=3)
    hub = read_training_data(DataArguments(f"hub:{folder}", **chosen), seed=3)
    assert (hub.class_names, hub.validation_from) == (files.class_names, files.validation_from)
    assert listed(hub.train) == listed(files.train)
    assert listed(hub.validation) == listed(files.validation)
    assert hub.record()["train"]["sha256"] == files.record()["train"]["sha256"]
    for part in (hub.train, hub.validation):  # the rows are the videos that the table names
        for index, sample in enumerate(part.table.samples):
            assert part.dataset[part._rows[index]]["video"]["path"] == f"{folder}/{sample.name}"
            assert part.label(index) == sample.label


def test_selections_have_the_sizes_asked_for(train_and_test):
    chosen = {"shots": 2, "class_subset": "base", "validation_share": 0.2}
    data = read_training_data(DataArguments(f"hub:{train_and_test}", **chosen), seed=0)
    assert data.class_names == ["blinking", "growing"]
    assert (data.train.table.counts(), data.validation.table.counts()) == ([2, 2], [1, 1])
    few = read_training_data(DataArguments(train_and_test, validation_share=0.05), seed=0)
    assert (few.train.counts(), few.validation.counts()) == ([4] * 4, [1] * 4)  # one of each class at least
    assert data.validation_from == "held back"
    assert not {name for name, *_ in listed(data.train)} & {name for name, *_ in listed(data.validation)}
    assert data.record()["train"]["videos"] == 4


def test_rows_without_paths_are_selected_by_their_number(content, tmp_path):
    """Bytes in parquet, as on the Hub: the same rows everywhere, and other ones with another seed."""
    rows = {"video": [{"bytes": content, "path": None}] * 20, "label": ["a", "b"] * 10}
    (tmp_path / "data").mkdir()
    datasets.Dataset.from_dict(rows).to_parquet(tmp_path / "data" / "train.parquet")

    def selected(seed):
        return listed(read_training_data(DataArguments(f"hub:{tmp_path / 'data'}", shots=2), seed).train)

    assert selected(0) == selected(0) != selected(1)
    assert [label for _, label, _ in sorted(selected(0), key=lambda row: row[1])] == [0, 0, 1, 1]
    assert all(name.startswith("row ") for name, *_ in selected(0))


def test_held_back_rows_are_written_as_a_list(train_and_test, tmp_path):
    data = read_training_data(DataArguments(f"hub:{train_and_test}", validation_share=0.2), seed=0)
    data.validation.write(tmp_path / "held_back.csv")
    again = read_training_data(DataArguments(train_and_test, eval_annotations=str(tmp_path / "held_back.csv")), 0)
    assert {row[:2] for row in listed(again.validation)} == {row[:2] for row in listed(data.validation)}


VALUES = {
    "shots": 2, "class_subset": "base", "validation_share": 0.2, "annotations": "/nowhere.txt",
    "base_classes": "/base.txt", "novel_classes": "/novel.txt",
    "classes": "/nowhere.txt", "annotation_format": "ucf101", "eval_videos": "/nowhere",
    "eval_annotations": "/nowhere.txt", "label_column": "what",
}  # fmt: skip
OF_FILES = {"annotations", "classes", "annotation_format", "eval_videos", "eval_annotations"}
SELECTIONS = {"shots", "class_subset", "base_classes", "novel_classes", "validation_share"}
REFUSED = {"files": {"label_column"}, "hub": OF_FILES, "stream": OF_FILES | SELECTIONS}


def arguments(source: str, folder: str, **more) -> DataArguments:
    videos = folder if source == "files" else f"hub:{folder}"
    return DataArguments(videos, streaming=source == "stream", **more)


@pytest.mark.parametrize(("source", "name"), [(source, name) for source in REFUSED for name in sorted(REFUSED[source])])
def test_a_field_that_a_source_cannot_honour_is_an_error(source, name, train_and_test):
    with pytest.raises(ValueError, match=f"^`{name}`"):
        read_training_data(arguments(source, train_and_test, **{name: VALUES[name]}), seed=0)


def test_a_stream_with_validation_needs_no_share(all_splits):
    """As in a folder, a share is held back only where there is no validation split."""
    data = read_training_data(arguments("stream", all_splits, validation_share=0.2), seed=0)
    assert data.validation_from == "validation"


@pytest.mark.parametrize("source", ["hub", "stream"])
def test_splits_by_their_other_names(content, tmp_path, monkeypatch, source):
    """Some data sets call it `val`; `validation` beside it is the one meant."""
    folder = folder_of(tmp_path / "data", content, train=2, validation=1)
    loaded = dict(datasets.load_dataset(folder, streaming=source == "stream"))
    loaded["val"] = loaded.pop("validation")
    monkeypatch.setattr(datasets, "load_dataset", lambda *args, **kwargs: loaded)
    data = read_training_data(arguments(source, folder), seed=0)
    assert data.validation_from == "validation"
    if source == "hub":
        assert len(listed(data.validation)) == 4
        loaded["validation"] = loaded["train"]
        assert len(listed(read_training_data(arguments(source, folder), seed=0).validation)) == 8


def test_a_stream_is_not_checked_and_says_why(content, tmp_path):
    folder = folder_of(tmp_path / "data", content, train=2)
    with pytest.raises(ValueError, match="`check_data`"):
        train_script.check_and_report(read_training_data(arguments("stream", folder), seed=0))


@pytest.fixture
def warned(caplog):
    """What the training's modules warn of."""
    logger = logging.get_logger("vitaclip_hf.training")
    logger.addHandler(caplog.handler)
    yield caplog
    logger.removeHandler(caplog.handler)


def test_classes_that_lose_their_videos_are_warned_of(content, tmp_path, warned):
    folder = folder_of(tmp_path / "data", content, train=1, test=1)
    (tmp_path / "data" / "train" / "left" / "0.mp4").unlink()
    read_training_data(DataArguments(f"hub:{folder}"), seed=0)
    assert "classes without training videos: 1 (left)" in warned.text
    for name in ("left", "right"):  # the test split has base classes alone
        (tmp_path / "data" / "test" / name / "0.mp4").unlink()
    assert read_training_data(DataArguments(folder, class_subset="novel"), seed=0).validation is None
    with pytest.raises(ValueError, match="no videos to train on"):
        read_training_data(DataArguments("hub:"), seed=0)


@pytest.mark.parametrize(
    ("name", "flip", "warns"),
    [
        *((name, 0.5, True) for name in ("turn left", "turn_left", "TurnLeft")),
        ("lefty", 0.5, False),
        ("left", 0, False),
    ],
)
def test_mirroring_classes_with_directions_is_warned_of(name, flip, warns, warned):
    warn_of_directions([name, "juggling"], flip)
    assert (f"such as {name!r}" in warned.text) == warns
