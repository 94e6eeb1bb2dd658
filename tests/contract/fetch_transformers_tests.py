"""Fetches the common tests of the installed transformers: they are in its sdist, but not in its wheel.

Nothing of them is kept in the repository. They land in `tests/contract/.transformers-<version>/transformers_tests`.
"""

import shutil
import subprocess
import sys
import tarfile
import tempfile
from email.parser import Parser
from importlib.metadata import version
from pathlib import Path


FILES = (
    "test_configuration_common.py",
    "test_modeling_common.py",
    "test_processing_common.py",
    "test_video_processing_common.py",
)


def tests_folder() -> Path:
    """Where the tests of the installed transformers belong. The folder exists only if they are complete."""
    return Path(__file__).parent / f".transformers-{version('transformers')}"


def download_sdist(folder: Path) -> Path:
    """Downloads the installed version's sdist into `folder`; pip compares its hash with the package index."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", "transformers"]
    subprocess.run([*command, "--dest", str(folder), f"transformers=={version('transformers')}"], check=True)
    (archive,) = folder.glob("*.tar.gz")
    return archive


def extract(archive: Path, folder: Path) -> None:
    """Writes the tests of an sdist to `folder` as the package `transformers_tests`."""
    package = folder / "transformers_tests"
    package.mkdir()
    with tarfile.open(archive) as sdist:
        root = sdist.getnames()[0].split("/")[0]

        def read(name: str) -> bytes:
            return sdist.extractfile(f"{root}/{name}").read()

        found = Parser().parsestr(read("PKG-INFO").decode())["Version"]
        if found != version("transformers"):
            raise SystemExit(f"{archive.name} holds transformers {found}, but {version('transformers')} is installed.")
        for name in FILES:
            (package / name).write_bytes(read(f"tests/{name}"))
    (package / "__init__.py").touch()  # the sdist has none; test_configuration_common.py reads it
    (folder / ".gitignore").write_text("*\n")


def main() -> None:
    target = tests_folder()
    if target.exists():
        return
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".transformers-unfinished-") as temporary:
        complete = Path(temporary) / "complete"
        complete.mkdir()
        try:
            archive = download_sdist(Path(temporary))
        except subprocess.CalledProcessError:
            raise SystemExit(f"The sdist of transformers {version('transformers')} could not be downloaded.") from None
        extract(archive, complete)
        shutil.move(complete, target)
    print(f"Fetched {len(FILES)} test files of transformers {version('transformers')}.")


if __name__ == "__main__":
    main()
