"""Names that hold control sequences, line breaks, or bytes that are not UTF-8, through the commands."""

import csv
import io
import json
import os
import pty
import shutil
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest
from tiny_models import letter_tokenizer
from tiny_training import arguments, save_start, write_videos

from vitaclip_hf.cli.main import main
from vitaclip_hf.data.output_files import storable
from vitaclip_hf.library.store import VideoStore
from vitaclip_hf.model.shown_names import shown


DEMO = Path(__file__).parents[2] / "examples" / "demo"
VIDEO = DEMO / "videos" / "taxi_moving_left.mp4"
MODEL = ["--model", str(DEMO / "checkpoint")]
LABELS = ["--labels", "taxi moving left,basketball bouncing"]
TITLE = "\x1b]0;owned\x07\x1b[2K\x1b[3A\u202egnp"  # sets the title of the window, erases, turns the direction of text
CLIPBOARD = "\x9b31m\x1b]52;c;ZWNobw==\x1b\\"


def test_shown():
    assert shown("a\nb\x1b[1m\x9bc\udcff\u2028") == "a\\nb\\x1b[1m\\x9bc\\udcff\\u2028"
    assert shown("Éclair 日本.mp4") == "Éclair 日本.mp4"
    assert json.loads(storable('"é\udcff"')) == "é\udcff"


def on_terminal(*commands: list[str]) -> bytes:
    """What commands write to a terminal, in one process."""
    code = f"from vitaclip_hf.cli.main import main\nfor command in {commands!r}: main(command)"
    ours, theirs = pty.openpty()
    streams = dict.fromkeys(("stdin", "stdout", "stderr"), theirs)
    with subprocess.Popen([sys.executable, "-c", code], **streams):
        os.close(theirs)
        written = b""
        with suppress(OSError):  # the other end is closed
            while block := os.read(ours, 1 << 16):
                written += block
    os.close(ours)
    return written


def test_names_move_nothing_on_a_terminal(tmp_path):
    shutil.copy(VIDEO, tmp_path / f"good{TITLE}\nname.mp4")
    (tmp_path / f"bad{CLIPBOARD}.mp4").write_text("no video")
    label = f"a taxi{TITLE}"
    command = ["classify", str(tmp_path), *MODEL, "--labels", label, "--labels", "a bell", "--format"]
    written = on_terminal([*command, "table"], [*command, "csv"])
    assert written.count(b"owned") >= 4 and b"ZWNobw" in written
    for start in (b"\x1b]", b"\x9b", b"\x07", "\x9b".encode(), b"\x1b[2K", b"\x1b[3A", "\u202e".encode()):
        assert start not in written, written
    assert rb"good\x1b]0;owned\x07\x1b[2K" in written and rb"a taxi\x1b]0;owned\x07" in written


def test_files_and_pipes_get_the_names_as_they_are(tmp_path, capsys):
    shutil.copy(VIDEO, tmp_path / f"good{TITLE}.mp4")
    assert main(["classify", str(tmp_path), *MODEL, *LABELS, "--format", "csv"]) == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert {row["video"] for row in rows} == {f"{tmp_path}/good{TITLE}.mp4"}


@pytest.fixture
def folder(tmp_path) -> Path:
    """A folder whose name, and the names of whose videos, are not UTF-8."""
    folder = Path(os.fsdecode(os.fsencode(tmp_path) + b"/odd\xfe"))
    (folder / "videos").mkdir(parents=True)
    shutil.copy(VIDEO, folder / "videos" / "taxi\udcff.mp4")
    shutil.copy(DEMO / "videos" / "basketball_bouncing.mp4", folder / "videos" / "ball.mp4")
    (folder / "videos" / "broken\udcff.mp4").write_text("no video")
    return folder


def test_bytes_that_are_not_utf8_in_videos_and_outputs(folder, capsys):
    videos, taxi = folder / "videos", str(folder / "videos" / "taxi\udcff.mp4")
    assert main(["classify", str(videos), *MODEL, *LABELS, "--output", str(folder / "scores.json")]) == 1
    rows = json.loads((folder / "scores.json").read_text(encoding="utf-8"))
    assert {Path(row["video"]).name for row in rows} == {"taxi\udcff.mp4", "ball.mp4", "broken\udcff.mp4"}
    outputs = [f"--output={folder / name}" for name in ("line.json", "line.png", "line.vtt", "line.csv", "line.html")]
    assert main(["timeline", taxi, *MODEL, *LABELS, *outputs]) == 0
    (name,) = json.loads((folder / "line.json").read_text(encoding="utf-8"))["results"]
    assert name == "taxi\udcff" and (folder / "line.png").read_bytes().startswith(b"\x89PNG")
    page = (folder / "line.html").read_text(encoding="utf-8")
    assert 'href="videos/taxi%FF.mp4#t=' in page and "<h1>taxi\\udcff.mp4</h1>" in page
    for file in (folder / "why.png", folder / "why.json"):
        assert main(["explain", taxi, *MODEL, "--label", "taxi", "--output", str(file)]) == 0
        assert file.stat().st_size > 500
    capsys.readouterr()
    vectors = ["--index", str(folder.parent / "vectors")]
    for expected in ("2 new, 0 unchanged, 1 failed, 2 windows\n", "0 new, 2 unchanged, 1 failed\n"):
        assert main(["index", str(videos), *MODEL, *vectors]) == 1
        assert capsys.readouterr().out == expected
    search = ["search", "taxi moving left", "--folder", str(videos), *vectors]
    search += ["--contact-sheet", str(folder / "sheet.png"), "--page", str(folder / "found.html")]
    assert main([*search, "--format", "json"]) == 0
    hits = json.loads(capsys.readouterr().out)
    assert [hit["path"] for hit in hits] == ["taxi\udcff.mp4", "ball.mp4"]
    assert main(search) == 0 and "  taxi\\udcff.mp4\n" in capsys.readouterr().out
    assert 'href="videos/taxi%FF.mp4#t=' in (folder / "found.html").read_text(encoding="utf-8")


def test_a_file_that_is_called_like_an_escape_is_another_one(tmp_path):
    names = ["a\\udcff.mp4", "b\udcff.mp4"]
    for name in names:
        (tmp_path / name).write_text(f"no video {name!a}")
    assert main(["index", str(tmp_path), *MODEL]) == 1
    rows = VideoStore(tmp_path / ".vitaclip-index").rows(["video"])
    assert sorted(rows["video"].to_pylist()) == [storable(name) for name in names]


def test_evaluation_and_training_of_videos_whose_folder_is_not_utf8(folder, tmp_path, capsys):
    start = str(save_start(tmp_path / "start", letter_tokenizer()))
    (folder / "classes").mkdir()
    videos = write_videos(folder / "classes")
    protocol = ["--protocol", "own-zero-shot", "--videos", str(videos), "--cpu", "--workers", "1"]
    for output in (tmp_path / "results", folder / "results"):
        assert main(["evaluate", "--model", start, *protocol, "--output", str(output)]) == 0
        assert json.loads((output / "results.json").read_text(encoding="utf-8"))["rows"]
    capsys.readouterr()
    assert main(["compare", *[str(place / "results" / "results.json") for place in (tmp_path, folder)]]) == 0
    assert "\n12 videos, 0 left out" in capsys.readouterr().out
    assert main(["train", *arguments(start, videos, tmp_path / "run")]) == 0
    run = json.loads((tmp_path / "run" / "run.json").read_text(encoding="utf-8"))
    assert str(videos) in json.dumps(run, ensure_ascii=False)
    capsys.readouterr()
    assert main(["train", *arguments(start, videos, folder / "run")]) == 2
    assert "--output-dir" in (error := capsys.readouterr().err) and error.count("\n") == 1 and "UTF-8" in error


@pytest.mark.parametrize(
    "command",
    [
        ["export", "--model", "{model}", "--output", "{folder}/export"],
        ["publish", "--model", "{folder}/model", "--repo-id", "a/b", "--output", "{folder}/published"],
        ["index", "{folder}/videos", "--model", "{model}"],
        ["convert", "original", "{golden}", "--classes", "{labels}", "--output", "{folder}/converted"],
        ["info", "--model", "{folder}/model"],
    ],
)
def test_folders_that_other_libraries_cannot_open(folder, tmp_path, refused, command):
    if command[0] == "export":
        pytest.importorskip("onnxruntime")
    shutil.copytree(DEMO / "checkpoint", folder / "model")
    (tmp_path / "any.pth").write_bytes(b"not read before the folder's name is")
    places = {"model": DEMO / "checkpoint", "folder": folder, "golden": tmp_path / "any.pth"}
    places["labels"] = DEMO / "labels.txt"
    assert "this path is not UTF-8" in refused(*(part.format(**places) for part in command))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("a\nb/c", "a\\nb/c: "),
        ("", "an empty name: "),
        ("x" * 5000, "x" * 200 + ": "),
        ("a\0b", "a\\x00b: "),
        ("{folder}", "config.json"),
    ],
)
def test_names_of_models(tmp_path, refused, name, message):
    assert message in refused("info", "--model", name.replace("{folder}", str(tmp_path)))
