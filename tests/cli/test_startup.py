"""The start of the command loads neither torch nor transformers; importing the package registers."""

import os
import subprocess
import sys
from pathlib import Path

import pytest


ROOT = Path(__file__).parents[2]
DEMO = ROOT / "examples" / "demo"
LOADED = "print(json.dumps([name for name in ('torch', 'transformers') if name in sys.modules]), file=sys.stderr)"


def in_a_new_process(code: str, *arguments, **environment: str) -> subprocess.CompletedProcess:
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "PYTHONPATH": str(ROOT)} | environment
    command = [sys.executable, "-c", f"import json, sys\n{code}", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, env=environment, cwd=ROOT)


def start(*arguments, **environment: str) -> tuple[int, str, str]:
    """The installed command: exit code, stdout, and stderr, whose last line names what it has loaded."""
    code = f"from vitaclip_command import main\nimport atexit\natexit.register(lambda: {LOADED})\nsys.exit(main())"
    result = in_a_new_process(code, *arguments, **environment)
    return result.returncode, result.stdout, result.stderr


@pytest.mark.parametrize(
    ("arguments", "exit_code"),
    [
        ([], 0),
        (["--help"], 0),
        (["--version"], 0),
        (["convert", "--help"], 0),
        (["classify", "--help"], 0),
        (["search", "--help"], 0),
        (["train", "own-folder", "--help"], 0),
        (["evaluate", "-h"], 0),
        (["clasify"], 2),
        (["classify", "a.mp4"], 2),
        (["serve", "--model", "x", "--port", "many"], 2),
        (["classify", "no such file.mp4", "--model", "x"], 2),
        (["classify", DEMO / "videos", "--model", "x", "--output", "scores.xyz"], 2),
        (["search"], 2),
        (["search", "a star", "--contact-sheet", "hits.xyz"], 2),
        (["explain", "a.mp4", "--model", "x", "--output", "grid.xyz"], 2),
        (["timeline", "a.mp4", "--model", "x", "--output", "line.xyz"], 2),
        (["export", "--model", "x", "--output", "x", "--labels-file", "none.txt"], 2),
    ],
)
def test_help_and_wrong_usage_load_neither_torch_nor_transformers(arguments, exit_code):
    code, _, error = start(*arguments)
    assert code == exit_code and error.splitlines()[-1] == "[]"
    assert len(error.splitlines()) == (2 if exit_code else 1)


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


def test_missing_package_is_one_line():
    code = """
sys.modules["pyarrow"] = None
from vitaclip_command import main
sys.exit(main())
"""
    result = in_a_new_process(code, "evaluate", "--model", "m", "--protocol", "p", "--videos", "v")
    (error,) = result.stderr.splitlines()
    assert result.returncode == 2 and error.startswith("vitaclip evaluate: ")
    assert "pyarrow" in error and "vitaclip_hf[train]" in error
