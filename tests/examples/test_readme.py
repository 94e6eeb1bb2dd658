"""README, model card and docs: code runs as it stands, links lead somewhere, commands exist with their options."""

import re
import shlex
from pathlib import Path

import pytest
import torch
import typer

from vitaclip_hf.cli import evaluate
from vitaclip_hf.cli.main import app
from vitaclip_hf.data.motion_shapes import Scene, draw_videos, write_video
from vitaclip_hf.training import run as training


ROOT = Path(__file__).parents[2]
PAGES = ["README.md", "MODEL_CARD.md", *sorted(f"docs/{page.name}" for page in (ROOT / "docs").glob("*.md"))]
BLOCKS = {
    f"{page}-{number}": code
    for page in PAGES
    if page != "docs/integrations.md"  # tests/integrations runs it, where its libraries are installed
    for number, code in enumerate(re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(), re.S))
}
# What blocks print, by something that stands in one block only.
OUTPUTS = {
    ".frames():": r"0 0\.0 \(96, 96, 3\)\n16 1\.0 \(96, 96, 3\)\n",
    "relevance.attention": r"torch.Size\(\[8\]\) torch.Size\(\[8, \d+, \d+\]\)\n"
    r"\['class token', 'global', 'local', 'patches', 'summary'\]\n",
    "min_cosine=0.5": r"something else the cosine of the best label is .*, below 0.5\n",
    "write_timeline": r"0.0 to 2.0 s: red star turning, \d+%\n",
    "store.search": r"Counter\(\{'new': 10, .*\n(\d\.\d{3}  \w+\.mp4 from 0.0 to 2.0 s\n){3}",
    "for answer in classifier": r"\d+\.\d%  red star turning\n\d+\.\d%  red star moving left\n",
    'hypothesis_template="a video of a {}"': r"\[\{'score': .*'label': 'red star turning'\}, \{.*\}\]\n",
    "batch_size=2": r"\[\[\{'score': .*'label': 'red \w+ .*\n",
    "get_class_features": r"tensor\(\[\[.*\]\]\)\ntorch.Size\(\[300, 64\]\)\n",
    '"blue heart bouncing", "blue heart moving up"': r"\[\{'score': .*'label': 'blue heart .*\n",
    'print(classifier("my.mp4", top_k=3))': r"\[\{'score': .*'label': 'red \w+ .*\n",
    'sampling="dense"': r"32 16.0\n3 torch.Size\(\[8, 3, 96, 96\]\)\ntorch.Size\(\[3, 3, 96, 96\]\)\n",
}
COMMANDS = sorted(
    {
        line.split("    #")[0].strip()
        for page in [*PAGES, "examples/demo/README.md"]
        for block in re.findall(r"```(?:bash|sh)\n(.*?)```", (ROOT / page).read_text(), re.S)
        for line in block.splitlines()
    }
)


@pytest.fixture
def video(tmp_path) -> Path:
    frames = draw_videos([Scene("red", "star", "turning")], torch.Generator().manual_seed(4))[0]
    write_video(tmp_path / "another.mp4", frames.numpy())
    return tmp_path / "another.mp4"


def with_own_files(code: str, video: Path, folder: Path) -> str:
    """The code with another video, and with a folder for what it writes."""
    return re.sub(r'"my[-_.][^"]*"', lambda name: repr(str(replaced(name[0][1:-1], video, folder))), code)


def replaced(name: str, video: Path, folder: Path) -> Path:
    return video if name == "my.mp4" else folder / name


@pytest.mark.parametrize("name", BLOCKS)
def test_code_runs_as_it_stands(name, video, run_script, tmp_path, monkeypatch, capsys):
    code = with_own_files(BLOCKS[name], video, tmp_path)
    if name.startswith("docs/"):
        monkeypatch.chdir(ROOT)
        exec(code, {})
        printed = capsys.readouterr().out
    else:  # in a process that has imported nothing yet
        (tmp_path / "pasted.py").write_text(code)
        result = run_script(tmp_path / "pasted.py")
        assert result.returncode == 0, result.stderr
        printed = result.stdout
    [expected] = [output for part, output in OUTPUTS.items() if part in BLOCKS[name]] or [""]
    assert re.fullmatch(expected, printed, re.S), printed


def block_with(part: str) -> str:
    [code] = [code for code in BLOCKS.values() if part in code]
    return code


@pytest.mark.parametrize("name", [name for name, code in BLOCKS.items() if "def start(" in code])
def test_starting_from_a_stock_clip(name, tokenizer, tmp_path, capsys):
    from transformers import CLIPConfig, CLIPModel

    size = {"num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64, "hidden_size": 32}
    CLIPModel(CLIPConfig(vision_config=size | {"image_size": 32}, text_config=size)).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    names: dict = {}
    exec(BLOCKS[name], names)
    model = names["start"](tmp_path, ["yoga", "archery"])
    assert model.config.id2label == {0: "yoga", 1: "archery"} and model.config.num_frames == 8
    printed = capsys.readouterr().out
    assert ("trainable params: " in printed) == ("print_trainable_parameters" in BLOCKS[name])


def test_prompts_alone_as_the_page_shares_them(tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    names: dict = {}
    exec(with_own_files(block_with("save_prompts"), tmp_path / "none.mp4", tmp_path), names)
    ours, again = names["model"].state_dict(), names["again"].state_dict()
    assert ours.keys() == again.keys()
    assert all(torch.equal(tensor, again[name]) for name, tensor in ours.items())


def test_picture_shows_the_frames_that_the_model_saw(video, tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    names: dict = {}
    exec(with_own_files(block_with("draw_answer"), video, tmp_path), names)
    assert (tmp_path / "my_answer.png").is_file()
    of_pipeline = names["classifier"].video_processor(str(video), return_metadata=True)["video_metadata"][0]
    assert names["video"].metadata.frames_indices == of_pipeline.frames_indices


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
