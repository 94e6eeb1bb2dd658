"""README, model card and docs: code runs as it stands, links lead somewhere, commands exist with their options."""

import doctest
import importlib
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import typer
from tiny_models import tiny_clip

from vitaclip_hf.cli import evaluate
from vitaclip_hf.cli.main import app
from vitaclip_hf.training import run as training


ROOT = Path(__file__).parents[2]
VIDEO = ROOT / "examples" / "demo" / "videos" / "banana_spinning.mp4"
FOUND = sorted(page for folder in ("docs", "examples") for page in (ROOT / folder).rglob("*.md"))
PAGES = ["README.md", "MODEL_CARD.md", *(str(page.relative_to(ROOT)) for page in FOUND)]
BLOCKS = {
    f"{page}-{number}": code
    for page in PAGES
    for number, code in enumerate(re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(), re.S))
}
# What some blocks print, by something that stands in one block only.
OUTPUTS = {
    ".frames():": r"0 0\.0 \(160, 160, 3\)\n16 1\.0 \(160, 160, 3\)\n",
    "min_cosine=0.5": r"something else the cosine of the best label is .*, below 0.5\n",
    "write_timeline": r"0.0 to 2.0 s: banana spinning, \d+%\n",
    "store.search": r"Counter\(\{'new': 10, .*\n(\d\.\d{3}  \w+\.mp4 from 0.0 to 2.0 s\n){3}",
    "for answer in classifier": r"\d+\.\d%  banana spinning\n\d+\.\d%  banana moving left\n",
    'hypothesis_template="a video of a {}"': r"\[\{'score': .*'label': 'banana spinning'\}, \{.*\}\]\n",
    'sampling="dense"': r"32 16.0\n3 torch.Size\(\[8, 3, 160, 160\]\)\ntorch.Size\(\[3, 3, 160, 160\]\)\n",
}
COMMANDS = sorted(
    {
        line.split("    #")[0].strip()
        for page in PAGES
        for block in re.findall(r"```(?:bash|sh)\n(.*?)```", (ROOT / page).read_text(), re.S)
        for line in block.splitlines()
    }
)


@pytest.mark.parametrize("name", BLOCKS)
def test_code_runs_as_it_stands(name, tmp_path, monkeypatch, capsys):
    """With another video, a folder for what it writes, and fewer steps."""
    own = lambda file: repr(str(VIDEO if file[1] == "my.mp4" else tmp_path / file[1]))  # noqa: E731
    code = re.sub(r'"(my[-_.][^"]*)"', own, BLOCKS[name]).replace("max_steps=40", "max_steps=4")
    for library in {"sentence_transformers", "mteb", "peft"} & set(re.findall(r"^(?:import|from) (\w+)", code, re.M)):
        pytest.importorskip(library)
        if library == "mteb":  # one of each of its kinds of tasks, of videos if there is one; its registry stays
            from mteb.mocks import mock_run
            from mteb.models.model_implementations import MODEL_REGISTRY

            tasks = sorted(mock_run.ALL_MOCK_TASK_TEST_GRID, key=lambda task: "video" in task.metadata.modalities)
            of_kinds = {task.metadata.type: task for task in tasks}.values()
            monkeypatch.setattr(mock_run, "ALL_MOCK_TASK_TEST_GRID", list(of_kinds))
            monkeypatch.setitem(MODEL_REGISTRY, "ORG/NAME", None)
    names: dict = {}
    if name != "README.md-0":
        monkeypatch.chdir(ROOT)
        exec(code, names)
        printed = capsys.readouterr().out
    else:  # in a process that has imported nothing yet
        (tmp_path / "pasted.py").write_text(code)
        command, environment = [sys.executable, tmp_path / "pasted.py"], os.environ | {"PYTHONPATH": str(ROOT)}
        printed = subprocess.run(
            command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True, env=environment
        ).stdout
    for part, output in OUTPUTS.items():
        assert part not in BLOCKS[name] or re.fullmatch(output, printed, re.S), printed
    if "save_prompts" in code:  # as the page shares them
        ours, again = names["model"].state_dict(), names["again"].state_dict()
        assert ours.keys() == again.keys() and all(torch.equal(tensor, again[key]) for key, tensor in ours.items())
    if "draw_answer" in code:  # the picture shows the frames that the model saw
        seen = names["classifier"].video_processor(str(VIDEO), return_metadata=True)["video_metadata"][0]
        assert (tmp_path / "my_answer.png").is_file()
        assert names["video"].metadata.frames_indices == seen.frames_indices


@pytest.mark.parametrize("name", [name for name, code in BLOCKS.items() if "def start(" in code])
def test_starting_from_a_stock_clip(name, tokenizer, tmp_path, capsys):
    tiny_clip().save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    names: dict = {}
    exec(BLOCKS[name], names)
    model = names["start"](tmp_path, ["yoga", "archery"])
    assert model.config.id2label == {0: "yoga", 1: "archery"} and model.config.num_frames == 8
    printed = capsys.readouterr().out
    assert ("trainable params: " in printed) == ("print_trainable_parameters" in BLOCKS[name])


@pytest.mark.parametrize("page", PAGES)
def test_links_and_paths_exist(page):
    text = (ROOT / page).read_text()
    for link in re.findall(r"\]\(([^)]+)\)", text):
        assert link.startswith("https://") or ((ROOT / page).parent / link).exists(), link
    for path in re.findall(r"`((?:examples|conversion|configuration|vitaclip_hf|tests)/[\w/.-]*)", text):
        assert (ROOT / path).exists(), path


@pytest.mark.parametrize("line", COMMANDS)
def test_commands_exist_with_their_options(line, monkeypatch):
    monkeypatch.chdir(ROOT)
    program, *arguments = shlex.split(line)
    if program == "make":
        assert re.search(rf"^{arguments[0]}:", (ROOT / "Makefile").read_text(), re.M)
    elif program == "python":
        assert (ROOT / arguments[0]).is_file()
    elif program == "cp":
        assert (ROOT / arguments[-2]).exists()
    elif program == "accelerate":
        assert not [name for name in arguments if name.startswith("configuration/") and not (ROOT / name).is_file()]
        [door] = [name for name in arguments if name in ("examples/train.py", "vitaclip_hf.cli")]
        command = arguments[arguments.index(door) + 1 :]
        check_command(command if door == "vitaclip_hf.cli" else ["train", *command])
    elif program == "vitaclip":
        check_command(arguments)
    else:
        assert program in ("pip", "hf")


def check_command(arguments: list[str]) -> None:
    """Parses, and runs nothing; an unknown command, option or recipe, or a missing argument is an error."""
    if arguments[0] == "train":
        training.parse_arguments([*arguments[1:], "--use_cpu"])  # --bf16 would need a GPU here
    elif arguments[0] == "evaluate":
        evaluate.parse_arguments(arguments[1:])
    else:
        command = typer.main.get_command(app)
        while hasattr(command, "commands"):
            command, arguments = command.commands[arguments[0]], arguments[1:]
        command.make_context("vitaclip", list(arguments))


MODULES = ("data.augmentation", "data.rand_augment", "data.class_names")
MODULES += ("model.configuration_vita_clip", "model.modeling_vita_clip")


@pytest.mark.parametrize("module", MODULES)
def test_examples_in_docstrings(module):
    results = doctest.testmod(importlib.import_module(f"vitaclip_hf.{module}"))
    assert results.attempted > 0 and results.failed == 0
