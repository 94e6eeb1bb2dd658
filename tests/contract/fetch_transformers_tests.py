"""Fetches the common tests of the installed transformers: they are in its sdist, but not in its wheel.

Nothing of them is kept in the repository. They land in `tests/contract/.transformers-<version>/transformers_tests`.
"""

import shutil
import subprocess
import sys
import tarfile
import tempfile
from importlib.metadata import version
from pathlib import Path


FILES = [f"test_{kind}_common.py" for kind in ("configuration", "modeling", "processing", "video_processing")]


def tests_folder() -> Path:
    """Where the tests of the installed transformers belong. The folder exists only if they are complete."""
    return Path(__file__).parent / f".transformers-{version('transformers')}"


def main() -> None:
    target, name = tests_folder(), f"transformers-{version('transformers')}"
    if target.exists():
        return
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".transformers-unfinished-") as temporary:
        # pip compares the hash with the package index.
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", "transformers"]
        if subprocess.run([*command, "--dest", temporary, name.replace("-", "==", 1)]).returncode:
            raise SystemExit(f"The sdist of {name} could not be downloaded.")
        package = Path(temporary, "complete", "transformers_tests")
        package.mkdir(parents=True)
        with tarfile.open(Path(temporary, f"{name}.tar.gz")) as sdist:
            for file in FILES:
                (package / file).write_bytes(sdist.extractfile(f"{name}/tests/{file}").read())
        (package / "__init__.py").touch()  # the sdist has none; test_configuration_common.py reads it
        (package.parent / ".gitignore").write_text("*\n")
        shutil.move(package.parent, target)
    print(f"Fetched {len(FILES)} test files of {name}.")


if __name__ == "__main__":
    main()
