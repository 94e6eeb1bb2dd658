"""Recipes as files, and the arguments that they make."""

from dataclasses import fields
from pathlib import Path

import pytest

from vitaclip_hf import VitaClipTextConfig, VitaClipVisionConfig
from vitaclip_hf.training import run as train_script
from vitaclip_hf.training.arguments import ModelArguments
from vitaclip_hf.training.recipes import read_recipe, write_recipe


RECIPES = Path(__file__).parents[2] / "configuration" / "recipes"


def values(*arguments: str) -> dict:
    """All values of a command line."""
    groups, _ = train_script.parse_arguments([*arguments, "--use-cpu"])
    return {name: value for group in groups for name, value in vars(group).items()}


def test_a_recipe_extends_another_and_is_written_again(tmp_path):
    (tmp_path / "base.yaml").write_text("recipe_version: 1\nflip: 0.1\nshots: 4\nrand_augment: rand-m3\n")
    (tmp_path / "mine.yaml").write_text("recipe_version: 1\nextends: base\nshots: 8\nrand_augment:\n")
    recipe = read_recipe(tmp_path / "mine.yaml")
    assert recipe == {"flip": 0.1, "shots": 8, "rand_augment": None}
    write_recipe(tmp_path / "again.yaml", recipe)
    assert read_recipe(tmp_path / "again.yaml") == recipe
    assert values(str(tmp_path / "mine.yaml"), "--flip", "0.2")["flip"] == 0.2


def test_a_path_in_a_recipe_is_found_from_any_working_directory(tmp_path, monkeypatch):
    """In a clone anywhere: from the working directory, else from the folder of the file that names it."""
    clone, elsewhere = tmp_path.resolve() / "clone", tmp_path / "elsewhere"
    for folder in (elsewhere, clone / "checkpoint", clone / "recipes"):
        folder.mkdir(parents=True)
    recipes = clone / "recipes"
    (recipes / "names.txt").touch()
    (recipes / "base.yaml").write_text("recipe_version: 1\nmodel: ../checkpoint\nbase_classes: names.txt\n")
    (recipes / "mine.yaml").write_text("recipe_version: 1\nextends: base\nrevision: names.txt\n")
    monkeypatch.chdir(elsewhere)
    unchanged = {"revision": "names.txt"}  # no path
    located = {"model": str(clone / "checkpoint"), "base_classes": str(recipes / "names.txt")}
    assert read_recipe(recipes / "mine.yaml") == located | unchanged
    (elsewhere / "names.txt").touch()
    assert read_recipe(recipes / "mine.yaml")["base_classes"] == "names.txt"
    monkeypatch.chdir(clone)
    located = {"model": "checkpoint", "base_classes": "recipes/names.txt"}
    assert read_recipe(recipes / "mine.yaml") == located | unchanged


@pytest.mark.parametrize(
    ("content", "token"),
    [
        ("recipe_version: 2\nflip: 1\n", "recipe_version: 2.* 1"),
        ("flip: 1\n", "recipe_version: None"),
        ("recipe_version: 1\nflap: 1\n", "'flap'.*'flip'"),
        ("recipe_version: 1\nnum_view: 3\n", "'num_view'.*'num_views'"),
        ("recipe_version: 1\nextends: other\n", "other.yaml"),
        ("recipe_version: 1\nextends: mine\n", "mine.yaml"),
        ('recipe_version: 1\n"a\\n\\e[2J": 1\n', "'a"),
    ],
)
def test_recipes_that_cannot_be_used(tmp_path, content, token):
    (tmp_path / "mine.yaml").write_text(content)
    with pytest.raises(ValueError, match=token) as error:
        values(str(tmp_path / "mine.yaml"))
    assert str(error.value).isprintable() and len(str(error.value)) < 1100


def test_a_recipe_that_does_not_exist_names_the_nearest():
    with pytest.raises(ValueError, match="'vita-clip-ssv2'.*few-shot"):
        read_recipe(RECIPES / "vitaclip-ssv2.yaml")


@pytest.mark.parametrize("path", sorted(RECIPES.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_recipe_makes_arguments(path):
    recipe, parsed = read_recipe(path), values(path.stem)
    differing = {name for name in recipe if parsed[name] != recipe[name]} - {"total_batch_size"}
    assert all(getattr(parsed[name], "value", None) == recipe[name] for name in differing), differing


def test_the_papers_recipe_has_the_papers_numbers():
    """Batch 256, 30,000 steps, AdamW 4e-4, decay 0.05 on all, cosine to 0, no warm-up, stride 16, 16 context tokens."""
    paper = values("vita-clip-k400")
    expected = {
        "num_frames": 8, "num_context_tokens": 16, "num_global_prompts": 8, "train_cls_projection": True,
        "frame_stride": 16, "sampling": "dense_random", "rand_augment": "rand-m7-n4-mstd0.5-inc1", "flip": 0.0,
        "max_steps": 30000, "learning_rate": 4e-4, "weight_decay": 0.05, "warmup_steps": 0, "max_grad_norm": 0,
        "decay_all": True, "total_batch_size": 256, "num_views": 3,
    }  # fmt: skip
    assert {name: paper[name] for name in expected} == expected
    assert paper["lr_scheduler_type"].value == "cosine"
    assert paper["gradient_accumulation_steps"] * paper["per_device_train_batch_size"] == 256
    released = values("vita-clip-k400-released")
    assert (released["num_context_tokens"], released["train_cls_projection"]) == (8, False)
    assert values("vita-clip-k400-16f")["num_frames"] == 16


def test_prompt_settings_are_those_of_the_configurations():
    ours = {item.name: item for item in fields(ModelArguments)}
    for config in (VitaClipVisionConfig(), VitaClipTextConfig()):
        added = {item.name for item in fields(config)} - {item.name for item in fields(type(config).__base__)}
        added -= {"pool_first_eos"}  # a fact of the backbone
        assert added and added <= ours.keys() and "patch_size" not in ours
        for name in added:
            assert (ours[name].default, bool(ours[name].metadata["help"])) == (getattr(config, name), True), name
    with pytest.raises(ValueError, match="context-position.*'left'"):
        values("--context-position", "left")
