"""Shared by the tests of data: a few small videos, and files for lists."""

from pathlib import Path

import drawn_clips
import pytest

from vitaclip_hf.data.annotations import AnnotationError, read_annotations


@pytest.fixture(scope="session")
def video_files(tmp_path_factory) -> list[str]:
    """Paths of 11 videos of 12 frames of 64 x 64, all different."""
    folder = tmp_path_factory.mktemp("videos")
    return [str(drawn_clips.write(folder / f"{n}.mp4", count=12, size=(64, 64), first=4 * n)) for n in range(11)]


@pytest.fixture
def videos(tmp_path) -> Path:
    """An empty folder of videos."""
    (tmp_path / "videos").mkdir()
    return tmp_path / "videos"


@pytest.fixture
def touch(videos):
    """Makes files in the folder of videos, by their names."""

    def make(*names, root=videos):
        for name in names:
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_bytes(b"x")

    return make


@pytest.fixture
def write(tmp_path):
    """Writes a file beside the folder of videos."""

    def make(name, text):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return make


@pytest.fixture
def read(videos, write):
    """Reads a list from its text: (name, class, split) of each video."""

    def table(text, classes=None, name="l.csv", **options):
        return read_annotations(videos, write(name, text), classes, **options)

    return table


@pytest.fixture
def refused(videos):
    """Checks that a list is refused in one bounded line with a token of the message."""

    def check(file, token="", **options):
        with pytest.raises(AnnotationError, match=token) as error:
            read_annotations(videos, file, **options)
        assert "\n" not in str(error.value) and len(str(error.value)) < 1100
        return str(error.value)

    return check


@pytest.fixture
def rows():
    """(name, class, split) of each video of a table."""

    def of(table):
        return [(s.name, None if s.label is None else table.class_names[s.label], s.split) for s in table.samples]

    return of
