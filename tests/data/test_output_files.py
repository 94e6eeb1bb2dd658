"""A file is there as a whole, or as it was; an output folder is held by one run, whatever becomes of the run."""

import multiprocessing
import os
import time

import pytest

from vitaclip_hf.data.folder_lock import FolderInUseError, folder_lock
from vitaclip_hf.data.output_files import replace_file


def fails_half_way(path):
    path.write_text("half")
    raise OSError(28, "No space left on device")


@pytest.mark.parametrize("name", ["a.json", "a", "ä" * 60 + ".png"])
def test_what_fails_leaves_the_old_file_and_nothing_else(tmp_path, name):
    (tmp_path / name).write_text("old")
    with pytest.raises(OSError, match="No space left"):
        replace_file(tmp_path / name, fails_half_way)
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {name: "old"}
    replace_file(tmp_path / name, lambda path: path.write_text("new"))
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {name: "new"}


def test_the_ending_stays_for_writers_that_go_by_it(tmp_path):
    seen = []
    replace_file(tmp_path / "a.png", lambda path: (seen.append(path.suffix), path.touch()))
    assert seen == [".png"]


def test_a_link_stays_a_link_and_a_device_a_device(tmp_path):
    (tmp_path / "real.txt").write_text("old")
    (tmp_path / "link.txt").symlink_to("real.txt")
    replace_file(tmp_path / "link.txt", lambda path: path.write_text("new"))
    assert (tmp_path / "link.txt").is_symlink() and (tmp_path / "real.txt").read_text() == "new"
    (tmp_path / "folder").symlink_to(tmp_path)
    replace_file(tmp_path / "folder" / "page.txt", lambda path: path.write_text(str(path.parent)))
    assert (tmp_path / "page.txt").read_text() == str(tmp_path / "folder")  # addresses in it are as its reader needs
    replace_file(os.devnull, lambda path: path.write_text("new"))
    assert not os.path.isfile(os.devnull)


def test_a_folder_that_is_not_there_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="none/a.txt"):
        replace_file(tmp_path / "none" / "a.txt", lambda path: path.write_text("x"))
    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError, match="file/a.txt"):
        replace_file(tmp_path / "file" / "a.txt", lambda path: path.write_text("x"))


# The lock of a folder


def hold(folder, held):
    with folder_lock(folder, "training"):
        held.set()
        time.sleep(600)


def test_another_process_is_refused_until_the_first_is_killed(tmp_path):
    fork, folder = multiprocessing.get_context("fork"), tmp_path / "run"
    held = fork.Event()
    holder = fork.Process(target=hold, args=(folder, held), daemon=True)
    holder.start()
    assert held.wait(60)
    with pytest.raises(FolderInUseError, match=f"{folder}: .*evaluation"), folder_lock(folder, "evaluation"):
        pass
    holder.kill()
    holder.join()
    with folder_lock(folder, "evaluation"):
        pass


def test_the_same_process_is_refused_and_may_come_again(tmp_path):
    with folder_lock(tmp_path, "training"):
        with pytest.raises(FolderInUseError), folder_lock(tmp_path, "training"):
            pass
        with pytest.raises(FolderInUseError), folder_lock(tmp_path, "training"):  # the refused one freed nothing
            pass
    with folder_lock(tmp_path, "training"):
        pass


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="file"), folder_lock(tmp_path / "file/run", "training"):
        pass
