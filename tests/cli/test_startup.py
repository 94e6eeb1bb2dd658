"""The start of the command loads neither torch nor transformers; importing the package registers."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest


ROOT = Path(__file__).parents[2]
DEMO = ROOT / "examples" / "demo"
LOADED = "print(json.dumps([name for name in ('torch', 'transformers') if name in sys.modules]), file=sys.stderr)"


def in_a_new_process(code: str, *arguments, **environment: str) -> subprocess.CompletedProcess:
    environment = os.environ | {"PYTHONPATH": str(ROOT)} | environment
    command = [sys.executable, "-c", f"import json, sys\n{code}", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, env=environment, cwd=ROOT)


def start(*arguments, **environment: str) -> tuple[int, str, str]:
    """The installed command: exit code, stdout, and stderr, whose last line names what it has loaded."""
    code = f"from vitaclip_command import main\nimport atexit\natexit.register(lambda: {LOADED})\nsys.exit(main())"
    result = in_a_new_process(code, *arguments, **environment)
    return result.returncode, result.stdout, result.stderr


def test_help_and_wrong_usage_load_neither_torch_nor_transformers():
    calls = [
        *([], ["--help"], ["--version"], ["convert", "--help"], ["classify", "--help"], ["search", "--help"]),
        *(["train", "own-folder", "--help"], ["evaluate", "-h"]),
        *(["clasify"], ["classify", "a.mp4"], ["serve", "--model", "x", "--port", "many"], ["search"]),
        ["classify", "no such file.mp4", "--model", "x"],
        ["classify", str(DEMO / "videos"), "--model", "x", "--output", "scores.xyz"],
        ["search", "a star", "--contact-sheet", "hits.xyz"],
        ["explain", "a.mp4", "--model", "x", "--output", "grid.xyz"],
        ["timeline", "a.mp4", "--model", "x", "--output", "line.xyz"],
        ["export", "--model", "x", "--output", "x", "--labels-file", "none.txt"],
        ["train"],
    ]
    code = f"""
from vitaclip_command import main
sys.modules["evaluate"] = None  # so that `train` ends at once
for arguments in json.loads(sys.argv[1]):
    sys.argv[1:] = arguments
    try:
        print("code", main(), file=sys.stderr)
    except SystemExit as end:
        print("code", end.code, file=sys.stderr)
    {LOADED}
"""
    lines = in_a_new_process(code, json.dumps(calls)).stderr.splitlines()
    assert [line for line in lines if line.startswith("code")] == [*["code 0"] * 8, *["code 2"] * 11]
    assert lines.count("[]") == 19 and len(lines) == 2 * 19 + 11  # and an error is one line


def test_completion_loads_neither_torch_nor_transformers():
    code, out, error = start(_VITACLIP_COMPLETE="complete_bash", COMP_WORDS="vitaclip cla", COMP_CWORD="1")
    assert out.split() == ["classify"] and error == "[]\n"


def test_a_command_at_work_registers_the_model_and_keeps_stdout_for_results():
    videos = [DEMO / "videos" / "red_star_turning.mp4", "none.mp4"]
    options = ["--model", DEMO / "checkpoint", "--labels", "a,b", "--format", "csv"]
    code, out, error = start("classify", *videos, *options)
    assert code == 1 and len(out.splitlines()) == 4 and "vitaclip classify: none.mp4: no such file" in error
    assert error.splitlines()[-1] == '["torch", "transformers"]'


def test_import_registers_and_changes_nothing_else():
    """Before and after: the tasks of transformers; then the model and its processor by the auto classes."""
    code = """
from transformers import AutoModel, AutoProcessor, pipeline
from transformers.pipelines import PIPELINE_REGISTRY
before = dict(PIPELINE_REGISTRY.supported_tasks)
import vitaclip_hf
after = dict(PIPELINE_REGISTRY.supported_tasks)
new = after.pop("zero-shot-video-classification")
assert after == before and new["impl"] is vitaclip_hf.ZeroShotVideoClassificationPipeline
model = sys.argv[1]
assert type(AutoModel.from_pretrained(model)) is vitaclip_hf.VitaClipModel
assert type(AutoProcessor.from_pretrained(model)) is vitaclip_hf.VitaClipProcessor
assert type(pipeline("zero-shot-video-classification", model=model)) is new["impl"]
assert type(pipeline("video-classification", model=model)) is not vitaclip_hf.VitaClipVideoClassificationPipeline
assert all(hasattr(vitaclip_hf, name) for name in vitaclip_hf.__all__) and not hasattr(vitaclip_hf, "AutoModel")
"""
    result = in_a_new_process(code, DEMO / "checkpoint")
    assert result.returncode == 0, result.stderr


def test_a_model_loads_without_pyav():
    code = """
sys.modules["av"] = None
import vitaclip_hf
from transformers import AutoModel, AutoTokenizer
assert type(AutoModel.from_pretrained(sys.argv[1])) is vitaclip_hf.VitaClipModel
assert len(AutoTokenizer.from_pretrained(sys.argv[1])("a star").input_ids) > 2
"""
    result = in_a_new_process(code, DEMO / "checkpoint")
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("package", ["accelerate", "datasets", "evaluate", "matplotlib", "pyarrow"])
def test_missing_package_is_one_line(package, monkeypatch, refused):
    """That of `evaluate` is in test_wheel.py, in a process that has not imported it."""
    monkeypatch.setitem(sys.modules, package, None)
    assert refused("train") == f'vitaclip train: not installed: {package}; pip install "vitaclip_hf[train]"\n'
