"""The command as a whole: help, versions, errors in one line; `info` and `card`; training and evaluation passed on."""

import json
import re
from pathlib import Path
from unittest.mock import Mock

import pytest
from tiny_models import on_clip, set_classes, tiny_clip, tiny_processor
from transformers import CLIPImageProcessor, CLIPProcessor
from typer.testing import CliRunner

from vitaclip_hf import VitaClipModel, __version__, save_prompts
from vitaclip_hf.cli.main import app, main


DEMO = Path(__file__).parents[2] / "examples" / "demo" / "checkpoint"


def call(*arguments):
    return CliRunner().invoke(app, list(map(str, arguments)))


@pytest.mark.parametrize(
    "command", ["classify", "compare", "average", "convert original", "convert clip", "publish", "info"]
)
def test_help_of_every_command_has_examples(command):
    text = call(*command.split(), "--help").stdout
    assert text.startswith(f"Usage: vitaclip {command} ")
    examples = text.partition("Examples:\n")[2].splitlines()
    assert examples and all(line.startswith(f"    vitaclip {command}") for line in examples)
    # Options of the examples exist.
    assert {option for line in examples for option in re.findall(r" (--[\w-]+)", line)} <= set(
        re.findall(r"--[\w-]+", text.partition("Options:")[2].partition("Examples:")[0])
    )


def test_version_and_unknown_commands(refused):
    assert call("--version").stdout == f"vitaclip_hf {__version__}\n"
    assert refused("clasify").startswith("vitaclip: No such command 'clasify'")
    assert refused("convert", "tensorflow").startswith("vitaclip convert: No such command 'tensorflow'")


def test_underscores_are_hyphens():
    written = call("classify", "no such file.mp4", "--model", "x", "--labels_file=none.txt", "--batch_size", "2")
    assert written.exit_code == 2 and "none.txt" in written.stderr


# Training and evaluation


@pytest.mark.parametrize("command", ["train", "evaluate"])
def test_what_the_short_help_lists_is_in_the_whole_one(command, capsys):
    listed = set(re.findall(r" (--[a-z][\w-]+)", call(command, "--help").stdout)) - {"--help", "--config-file"}
    with pytest.raises(SystemExit, match="0"):
        main([command, "--help-all"])
    assert len(listed) > 10 and listed - {"--help-all"} <= set(re.findall(r"--[\w-]+", capsys.readouterr().out))


# Facts


@pytest.mark.parametrize(
    ("command", "loader"),
    [
        ("info --model a/b", "loading.checkpoint.load_checkpoint"),
        ("evaluate --model a/b --protocol own-zero-shot --cpu --videos", "evaluation.run.load_checkpoint"),
        ("train own-folder --model a/b --use-cpu --videos", "training.starting_point.load_checkpoint"),
        ("convert clip a/b --output out", "conversion.convert_clip.convert_clip"),
        ("convert vifi a.pth --output out", "conversion.convert_vifi_clip.convert_vifi_clip"),
    ],
)
def test_a_revision_reaches_what_loads(command, loader, videos, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(f"vitaclip_hf.{loader}", called := Mock(side_effect=ValueError("stopped")))
    given = [*command.split(), str(videos)] if command.endswith("--videos") else command.split()
    assert main([*given, "--revision", "v1"]) == 2
    assert "v1" in (*called.call_args.args, *called.call_args.kwargs.values())


def facts(*arguments) -> dict:
    result = call("info", *arguments, "--format", "json")
    assert result.exit_code == 0, result.stderr
    return json.loads(result.stdout)


def test_info_of_a_whole_model():
    found = facts("--model", DEMO)
    model = VitaClipModel.from_pretrained(DEMO)
    assert found["kind"].startswith("a whole Vita-CLIP") and found["base_model"] is None
    assert found["classes"] == list(model.config.id2label.values()) and found["trained_parameters"] == 494_081
    assert found["parameters"] == sum(parameter.numel() for parameter in model.parameters()) == 1_991_713
    assert (found["frames"], found["image_size"], found["text_prompts"]["num_context_tokens"]) == (8, 48, 4)
    assert found["vision_prompts"]["use_summary_prompt"] is True and found["vision_prompts"]["num_global_prompts"] == 8
    table = call("info", "--model", DEMO).stdout
    assert re.search(r"^trained_parameters +494,081$", table, re.M) and "(400 in all)" in table


def test_info_of_prompts_alone_and_of_a_clip(tokenizer, tmp_path):
    clip = tiny_clip()
    clip.save_pretrained(tmp_path / "clip")
    CLIPProcessor(CLIPImageProcessor(), tokenizer).save_pretrained(tmp_path / "clip")
    plain = facts("--model", tmp_path / "clip")
    assert plain["kind"] == "a dual encoder, CLIPModel" and plain["parameters"] == clip.num_parameters()
    model = on_clip(tmp_path / "clip")
    set_classes(model, ["archery", "tai chi"], tokenizer)
    save_prompts(model, tmp_path / "prompts", base=tmp_path / "clip")
    tiny_processor(tokenizer).save_pretrained(tmp_path / "prompts")
    found = facts("--model", tmp_path / "prompts")
    assert found["kind"].startswith("prompts alone") and found["base_model"] == str(tmp_path / "clip")
    assert found["classes"] == ["archery", "tai chi"]
    said = call("classify", DEMO.parent / "videos/bell_shaking.mp4", "--labels", "a,b", "--model", tmp_path / "prompts")
    assert said.stderr.endswith(f", {tmp_path / 'prompts'}\n")
