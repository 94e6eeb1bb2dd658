"""The wheel: what is in it, and what works from it alone, without the checkout and without its extras."""

import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest
from tiny_models import tiny_clip

from vitaclip_hf import __version__


ROOT = Path(__file__).parents[1]
PACKAGES = {"vitaclip_hf": ROOT / "vitaclip_hf", "vitaclip_hf/conversion": ROOT / "conversion"}
PACKAGES["vitaclip_hf/configuration"] = ROOT / "configuration"
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
DATA = (".py", ".typed", ".yaml", ".json", ".txt")
EXTRAS = ["accelerate", "datasets", "decord", "gradio", "matplotlib", "mteb", "psutil", "pyarrow"]
EXTRAS += ["scipy", "sklearn"]

# Runs commands in one process; prints the exit code, stdout and stderr of each as JSON.
DRIVER = """
import contextlib, importlib.machinery, importlib.metadata, io, json, sys

task = json.loads(sys.argv[1])
find_spec = importlib.machinery.PathFinder.find_spec
importlib.machinery.PathFinder.find_spec = staticmethod(lambda name, *rest: (
    None if name.partition(".")[0] in task["hidden"] else find_spec(name, *rest)
))
version = importlib.metadata.version
def known_version(name):
    if name in task["hidden"]:
        raise importlib.metadata.PackageNotFoundError(name)
    return version(name)
importlib.metadata.version = known_version
import vitaclip_hf
from vitaclip_hf.cli.main import main

answers = []
for arguments in task["commands"]:
    streams = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(streams[0]), contextlib.redirect_stderr(streams[1]):
        code = main(arguments)
    answers.append([code, *(stream.getvalue() for stream in streams)])
files = {name: module.__file__ for name, module in sys.modules.items()
         if name.partition(".")[0] == "vitaclip_hf" and name != "vitaclip_hf.examples"}
print(json.dumps({"answers": answers, "files": files, "protocol": vitaclip_hf.load_protocol("hmdb51-zero-shot").name,
                  "hidden": sorted({name.partition(".")[0] for name in sys.modules} & set(task["hidden"]))}))
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """Built from what the server's image copies; in place, setuptools would take along an earlier build in `build/`."""
    source, target = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    (source / "examples" / "demo").mkdir(parents=True)
    dockerfile = (ROOT / "examples" / "serve" / "Dockerfile").read_text()
    for names, to in re.findall(r"^COPY (.+) (?!/)(\S+)$", dockerfile, re.MULTILINE):
        for file in (file for name in names.split() for file in ROOT.glob(name)):
            (shutil.copytree if file.is_dir() else shutil.copy)(file, source / to)
    (source / "tests").mkdir()
    (source / "tests" / "test_nothing.py").touch()
    command = ["wheel", "--verbose", "--no-deps", "--no-build-isolation", "--wheel-dir", target, source]
    built = run(["-m", "pip", *command], target)
    assert built.returncode == 0, built.stdout + built.stderr
    assert "absent from the `packages` configuration" not in built.stdout + built.stderr
    (file,) = target.glob("*.whl")
    return file


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("installed")
    result = run(["-m", "pip", "install", "--no-deps", "--target", folder, wheel], folder)
    assert result.returncode == 0, result.stderr
    return folder


def run(arguments, directory: Path, **environment: str) -> subprocess.CompletedProcess:
    command = [sys.executable, *map(str, arguments)]
    return subprocess.run(command, cwd=directory, env=os.environ | environment, capture_output=True, text=True)


def run_installed(installed: Path, directory: Path, *arguments) -> subprocess.CompletedProcess:
    """With the installed wheel and the environment's packages. `-S` leaves out the editable install of the checkout."""
    path = os.pathsep.join([str(installed), sysconfig.get_path("purelib")])
    result = run(["-S", *arguments], directory, PYTHONPATH=path)
    assert "Traceback" not in result.stderr, result.stderr
    return result


def test_contents(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    about = {name for name in names if ".dist-info/" in name}
    expected = {
        f"{package}/{file.relative_to(folder).as_posix()}"
        for package, folder in PACKAGES.items()
        for file in folder.rglob("*")
        if file.suffix in DATA and "__pycache__" not in file.parts
    }
    expected |= {f"vitaclip_hf/examples/{file.name}" for file in EXAMPLES}
    expected |= {"vitaclip_hf/conversion/model_card_template.md", "vitaclip_command.py"}
    assert names - about == expected
    assert {"vitaclip_hf/py.typed", "vitaclip_hf/configuration/recipes/own-folder.yaml"} <= names
    assert [name for name in about if name.endswith("/licenses/LICENSE")]


def test_documents_name_the_version():
    assert f"\nversion: {__version__}\n" in (ROOT / "CITATION.cff").read_text()
    assert f"\n## [{__version__}]" in (ROOT / "CHANGELOG.md").read_text()


def test_command_is_installed(installed, tmp_path):
    command = installed / "bin" / "vitaclip"
    assert "vitaclip_command import main" in command.read_text()
    version = run_installed(installed, tmp_path, command, "--version")
    assert (version.returncode, version.stdout) == (0, f"vitaclip_hf {__version__}\n")


def test_python_in_a_clone_finds_everything_after_a_plain_installation(installed, tmp_path):
    """Python puts its folder first, so that the clone's package is taken, which has two of its parts beside it."""
    for folder in PACKAGES.values():
        links = [path.name for path in folder.iterdir() if path.is_symlink()]
        shutil.copytree(folder, tmp_path / folder.name, ignore=shutil.ignore_patterns("__pycache__", *links))
    code = "import vitaclip_hf.configuration as a, vitaclip_hf.conversion as b; print(a.__file__, b.__file__)"
    found = run_installed(installed, tmp_path, "-c", code)
    assert found.stdout.split() == [str(tmp_path / name / "__init__.py") for name in ("configuration", "conversion")]


def test_inference_conversion_and_publication_need_no_extra(installed, tokenizer, tmp_path):
    """One after the other, from a stock CLIP to scores of the published folder, with the extras' packages hidden."""
    tiny_clip().save_pretrained(tmp_path / "clip")
    tokenizer.save_pretrained(tmp_path / "clip")
    (tmp_path / "classes.txt").write_text("archery\ntai chi\n")
    video = next((ROOT / "examples" / "demo" / "videos").glob("*.mp4"))
    initial, folder = tmp_path / "initial", tmp_path / "folder"
    commands = [
        ["convert", "clip", tmp_path / "clip", "--output", initial, "--classes", tmp_path / "classes.txt"],
        ["publish", "--model", initial, "--repo-id", "org/tiny", "--output", folder],
        ["info", "--model", folder, "--format", "json"],
        ["classify", video, "--model", folder, "--labels", "a,b,c", "--format", "json"],
        ["classify", video, "--model", folder, "--format", "json"],
        ["info"],
        ["compare", "a.json", "b.json"],
        ["train", "own-folder"],
        ["evaluate", "--model", folder, "--protocol", "own-zero-shot", "--videos", tmp_path],
        ["demo", "--model", folder],
    ]
    task = {"commands": [list(map(str, command)) for command in commands], "hidden": EXTRAS}
    result = run_installed(installed, tmp_path, "-c", DRIVER, json.dumps(task))
    assert result.returncode == 0, result.stderr
    answer = json.loads(result.stdout.splitlines()[-1])
    converted, published, info, zero_shot, own, installation, *need_extra, page = answer["answers"]
    assert (answer["hidden"], answer["protocol"]) == ([], "hmdb51-zero-shot")
    assert answer["files"] and all(Path(file).is_relative_to(installed) for file in answer["files"].values())
    assert converted[0] == 0 and "2 classes" in converted[1], converted
    assert published[0] == 0 and "Checked: bit-identical outputs" in published[1], published
    assert {"README.md", "LICENSE", "modeling_vita_clip.py"} <= {file.name for file in folder.iterdir()}
    assert info[0] == 0 and json.loads(info[1])["classes"] == ["archery", "tai chi"]
    (row,) = json.loads(zero_shot[1])
    assert row["video"] == str(video) and sorted(score["label"] for score in row["scores"]) == ["a", "b", "c"]
    assert {score["label"] for score in json.loads(own[1])[0]["scores"]} == {"archery", "tai chi"}
    assert installation[0] == 0 and "vitaclip_hf" in installation[1]
    for code, out, error in need_extra:
        assert (code, out, error.count("\n")) == (2, "", 1) and "vitaclip_hf[train]" in error
    assert page[0] == 2 and "vitaclip_hf[demo]" in page[2]
