"""The start of the command loads neither torch nor transformers; importing the package registers."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path


ROOT = Path(__file__).parents[2]
DEMO = ROOT / "examples" / "demo"
LOADED = "print(json.dumps([name for name in ('torch', 'transformers') if name in sys.modules]), file=sys.stderr)"


def in_a_new_process(code: str, *arguments, **environment: str) -> subprocess.CompletedProcess:
    environment = os.environ | {"PYTHONPATH": str(ROOT)} | environment
    command = [sys.executable, "-c", f"import json, sys\n{code}", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env=environment, cwd=ROOT)


def test_help_and_wrong_usage_load_neither_torch_nor_transformers():
    """And then a command at work does, with nothing but its results on stdout."""
    calls = [
        *([], ["--help"], ["--version"], ["convert", "--help"], ["classify", "--help"], ["search", "--help"]),
        *(["train", "own-folder", "--help"], ["evaluate", "-h"]),
        *(["clasify"], ["classify", "a.mp4"], ["serve", "--model", "x", "--port", "many"], ["search"]),
        ["classify", "no such file.mp4", "--model", "x"],
        ["classify", str(DEMO / "videos"), "--model", "x", "--output", "scores.xyz"],
        ["search", "a taxi", "--contact-sheet", "hits.xyz"],
        ["explain", "a.mp4", "--model", "x", "--output", "grid.xyz"],
        ["timeline", "a.mp4", "--model", "x", "--output", "line.xyz"],
        ["export", "--model", "x", "--output", "x", "--labels-file", "none.txt"],
        ["train"],
    ]
    video = str(DEMO / "videos" / "banana_spinning.mp4")
    work = ["classify", video, "none.mp4", "--model", str(DEMO / "checkpoint"), "--labels", "a,b", "--format", "csv"]
    code = f"""
from vitaclip_command import main
sys.modules["datasets"] = None  # so that `train` ends at once
for arguments in json.loads(sys.argv[1]):
    sys.argv[1:] = arguments
    try:
        print("code", main(), file=sys.stderr)
    except SystemExit as end:
        print("code", end.code, file=sys.stderr)
    {LOADED}
"""
    result = in_a_new_process(code, json.dumps([*calls, work]))
    lines = result.stderr.splitlines()
    assert [line for line in lines if line.startswith("code")] == [*["code 0"] * 8, *["code 2"] * 11, "code 1"]
    assert lines[: 2 * 19 + 11].count("[]") == 19  # and an error is one line
    assert "vitaclip classify: none.mp4: no such file" in result.stderr
    assert lines[-1] == '["torch", "transformers"]'
    rows = [line.partition(",")[0] for line in result.stdout.splitlines()[-4:]]
    assert rows == ["video", video, video, "none.mp4"]


def test_an_interruption_that_falls_into_a_finalizer_comes_again():
    code = """
import signal, time
from vitaclip_hf.cli import main as command

class Part:
    def __del__(self):
        signal.raise_signal(signal.SIGINT)

def work(**settings):
    Part()
    time.sleep(60)

sys.argv[1:] = []
command.app = work
command.main()
"""
    result = in_a_new_process(code)
    assert result.returncode == -signal.SIGINT and "KeyboardInterrupt" in result.stderr


def test_completion_loads_neither_torch_nor_transformers():
    code = f"from vitaclip_command import main\nimport atexit\natexit.register(lambda: {LOADED})\nmain()"
    words = {"_VITACLIP_COMPLETE": "complete_bash", "COMP_WORDS": "vitaclip cla", "COMP_CWORD": "1"}
    result = in_a_new_process(code, **words)
    assert result.stdout.split() == ["classify"] and result.stderr == "[]\n"


def test_import_registers_and_changes_nothing_else():
    """Before and after: the tasks of transformers; without PyAV, the model; then all by the auto classes."""
    code = """
from transformers import AutoModel, AutoProcessor, AutoTokenizer, VideoClassificationPipeline, pipeline
from transformers.pipelines import PIPELINE_REGISTRY
before = dict(PIPELINE_REGISTRY.supported_tasks)
sys.modules["av"] = None
import vitaclip_hf
after = dict(PIPELINE_REGISTRY.supported_tasks)
new = after.pop("zero-shot-video-classification")
assert after == before and new["impl"] is vitaclip_hf.ZeroShotVideoClassificationPipeline
model = sys.argv[1]
assert type(AutoModel.from_pretrained(model)) is vitaclip_hf.VitaClipModel
assert len(AutoTokenizer.from_pretrained(model)("a taxi").input_ids) > 2
del sys.modules["av"]
assert type(AutoProcessor.from_pretrained(model)) is vitaclip_hf.VitaClipProcessor
assert type(pipeline("zero-shot-video-classification", model=model)) is new["impl"]
assert type(pipeline("video-classification", model=model)) is VideoClassificationPipeline
assert all(hasattr(vitaclip_hf, name) for name in vitaclip_hf.__all__) and not hasattr(vitaclip_hf, "AutoModel")
"""
    result = in_a_new_process(code, DEMO / "checkpoint")
    assert result.returncode == 0, result.stderr
