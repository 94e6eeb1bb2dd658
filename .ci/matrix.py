"""Runs the demo and tests/model on each Python, with the newest and with the lowest versions pyproject.toml allows.

  python .ci/matrix.py             every Python from 3.10 to 3.14 that is installed, by PATH or pyenv
  python .ci/matrix.py --newest    only prints the newest of them

The lowest versions are installed on the oldest Python: the newer ones have no wheels of them.
"""

import argparse
import os
import re
import subprocess
import sys
from pathlib import Path


ROOT = Path(__file__).parents[1]
ENVIRONMENTS = ROOT / ".venv-matrix"
DEMO = ROOT / "examples" / "demo"
CLASSIFY = ["classify", DEMO / "videos", "--model", DEMO / "checkpoint", "--labels-file", DEMO / "labels.txt"]
MINORS = range(10, 15)
INSTALL = ["-m", "pip", "install", "--quiet", "--no-compile", "--editable"]


def pythons() -> dict[int, str]:
    """Python by minor version: those on PATH that run, then those of pyenv."""
    folders = os.environ.get("PATH", "").split(os.pathsep)
    try:
        root = subprocess.run(["pyenv", "root"], capture_output=True, text=True).stdout.strip()
        folders += [str(folder) for folder in sorted(Path(root).glob("versions/*/bin"), reverse=True)]
    except OSError:
        pass
    found: dict[int, str] = {}
    for minor in MINORS:
        for program in (Path(folder) / f"python3.{minor}" for folder in folders):
            if program.exists() and not subprocess.run([program, "--version"], capture_output=True).returncode:
                found.setdefault(minor, str(program))
    return found


def lowest() -> list[str]:
    """The lower bounds of the package's own requirements, as pip's constraints."""
    dependencies = re.search(r"^dependencies = \[\n(.*?)^\]", (ROOT / "pyproject.toml").read_text(), re.M | re.S)
    assert dependencies, "pyproject.toml has no dependencies"
    return [f"{name}=={bound}" for name, bound in re.findall(r'"([\w-]+)>=([\d.]+)', dependencies[1])]


def run(python: str, minor: int, kind: str) -> bool:
    """Makes the environment if it is missing; returns whether everything passed."""
    folder = ENVIRONMENTS / f"3.{minor}-{kind}"
    own = folder / "bin" / "python"
    constraints = ENVIRONMENTS / "lowest.txt"
    constraints.write_text("\n".join(lowest()) if kind == "lowest" else "")
    tests = ["pytest", "psutil", "accelerate", "datasets", "decord", "open_clip_torch", "torchcodec"]
    steps: list[list] = [
        [python, "-m", "venv", folder],
        [own, *INSTALL, ROOT, *tests, "--constraint", constraints],
        [folder / "bin" / "vitaclip", *CLASSIFY],
        [own, "-m", "pytest", "-q", ROOT / "tests" / "model"],
    ]
    return not any(subprocess.run(list(map(str, step)), cwd=ROOT).returncode for step in steps)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--newest", action="store_true", help="print the newest Python and do nothing")
    found = pythons() or {sys.version_info.minor: sys.executable}
    if parser.parse_args().newest:
        print(found[max(found)])
        return 0
    ENVIRONMENTS.mkdir(exist_ok=True)
    jobs = [(min(found), "lowest"), *((minor, "newest") for minor in found)]
    results = {f"3.{minor} {kind}": run(found[minor], minor, kind) for minor, kind in jobs}
    for name, passed in results.items():
        print(f"{name:12} {'passed' if passed else 'FAILED'}")
    return 0 if all(results.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
