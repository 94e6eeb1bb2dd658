"""An output folder is held by one run, whatever becomes of the run."""

import subprocess
import sys

import pytest

from vitaclip_hf.data.folder_lock import FolderInUseError, FolderLock


HOLD = """
import sys, time
from vitaclip_hf.data.folder_lock import FolderLock
with FolderLock(sys.argv[1], "training"):
    print("held", flush=True)
    time.sleep(600)
"""


def test_another_process_is_refused_until_the_first_is_killed(tmp_path):
    folder = tmp_path / "run"
    holder = subprocess.Popen([sys.executable, "-c", HOLD, folder], stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(FolderInUseError, match=f"{folder}: .*evaluation"), FolderLock(folder, "evaluation"):
            pass
    finally:
        holder.kill()
        holder.communicate()
    with FolderLock(folder, "evaluation"):
        pass


def test_the_same_process_is_refused_and_may_come_again(tmp_path):
    with FolderLock(tmp_path, "training"):
        with pytest.raises(FolderInUseError), FolderLock(tmp_path, "training"):
            pass
        with pytest.raises(FolderInUseError), FolderLock(tmp_path, "training"):  # the refused one freed nothing
            pass
    with FolderLock(tmp_path, "training"):
        pass


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="file"), FolderLock(tmp_path / "file/run", "training"):
        pass
