from dataclasses import dataclass, field, fields
from pathlib import Path

import pytest
import yaml

from vitaclip_hf import VitaClipTextConfig, VitaClipVisionConfig
from vitaclip_hf.model.version import package_versions
from vitaclip_hf.training import run as train_script
from vitaclip_hf.training.arguments import (
    AugmentationArguments,
    DataArguments,
    ModelArguments,
    VitaClipTrainingArguments,
    field_names,
)
from vitaclip_hf.training.recipes import RecipeError, RecipeParser, read_recipe, write_recipe


RECIPES = Path(__file__).parents[2] / "configuration" / "recipes"
GROUPS = (ModelArguments, DataArguments, AugmentationArguments, VitaClipTrainingArguments)


@dataclass
class Numbers:
    rate: float = 0.5
    count: int | None = None
    switch: bool = True
    words: str | None = None
    several: list[float] = field(default_factory=lambda: [1.0])


def parse(arguments: list[str], recipe: dict) -> Numbers:
    (numbers,) = RecipeParser((Numbers,)).parse(arguments, recipe)
    return numbers


def test_command_line_wins_over_recipe_and_recipe_over_defaults():
    assert parse([], {}) == Numbers()
    recipe = {"rate": 0.25, "count": 3, "switch": False, "several": [1.0, 2.0]}
    assert parse([], recipe) == Numbers(0.25, 3, False, None, [1.0, 2.0])
    found = parse(["--rate", "2", "--switch", "true", "--words", "a b", "--several", "4", "5"], recipe)
    assert found == Numbers(2.0, 3, True, "a b", [4.0, 5.0])
    assert parse(["--no_switch"], {}) == Numbers(switch=False)


def test_a_number_that_yaml_reads_as_text_is_a_number():
    assert parse([], yaml.safe_load("rate: 4e-4")).rate == 4e-4
    assert parse([], {"count": "7"}).count == 7
    wrong = ({"rate": "fast"}, {"count": True}, {"words": 3}, {"rate": None}, {"rate": [1.0]}, {"count": 1.5})
    for recipe in (*wrong, {"several": 0.5}, {"switch": 1}, {"words": ["a"]}):
        with pytest.raises(RecipeError, match=next(iter(recipe))):
            parse([], recipe)


def test_unknown_names_are_errors_that_tell_the_nearest():
    with pytest.raises(RecipeError, match=r"'--contt'.*did you mean 'count'"):
        parse(["--contt", "3"], {})
    with pytest.raises(RecipeError, match="rate.*invalid float"):
        parse(["--rate", "fast"], {})


def test_what_was_chosen_is_a_recipe_that_gives_the_same(tmp_path):
    parser = RecipeParser((Numbers,))
    first = parser.parse(["--count", "5"], {"rate": 0.5, "several": [2.0]})
    assert parser.chosen == {"rate": 0.5, "count": 5, "several": [2.0]}
    write_recipe(tmp_path / "again.yaml", parser.chosen)
    again = read_recipe(tmp_path / "again.yaml", field_names((Numbers,)))
    assert RecipeParser((Numbers,)).parse([], again) == first


def test_a_recipe_extends_another(tmp_path):
    (tmp_path / "base.yaml").write_text("recipe_version: 1\nrate: 0.1\ncount: 4\n")
    (tmp_path / "mine.yaml").write_text("recipe_version: 1\nextends: base\ncount: 8\n")
    assert read_recipe(tmp_path / "mine.yaml", {"rate", "count"}) == {"rate": 0.1, "count": 8}


def test_a_path_in_a_recipe_is_found_from_any_working_directory(tmp_path, monkeypatch):
    """In a clone anywhere: from the working directory, else from the folder of the file that names it."""
    recipes = tmp_path / "clone" / "recipes"
    recipes.mkdir(parents=True)
    (tmp_path / "clone" / "checkpoint").mkdir()
    (recipes / "names.txt").touch()
    (recipes / "motion_shapes").mkdir()
    (recipes / "base.yaml").write_text("recipe_version: 1\nmodel: ../checkpoint\nclasses: names.txt\n")
    (recipes / "mine.yaml").write_text("recipe_version: 1\nextends: base\nvideos: motion_shapes\nrevision: names.txt\n")

    def read():
        return read_recipe(recipes / "mine.yaml", {"model", "classes", "videos", "revision"})

    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    clone = tmp_path.resolve() / "clone"
    found = {"model": str(clone / "checkpoint"), "classes": str(clone / "recipes" / "names.txt")}
    unchanged = {"videos": "motion_shapes", "revision": "names.txt"}  # generated, and no path
    assert read() == found | unchanged
    (elsewhere / "names.txt").touch()
    assert read()["classes"] == "names.txt"
    monkeypatch.chdir(tmp_path / "clone")
    assert read() == {"model": "checkpoint", "classes": "recipes/names.txt"} | unchanged


def test_the_generated_recipe_finds_its_model_from_anywhere(tmp_path, monkeypatch):
    def model() -> str:
        return read_recipe(RECIPES / "motion_shapes.yaml", field_names(GROUPS))["model"]

    monkeypatch.chdir(tmp_path)
    assert (Path(model()) / "config.json").is_file()
    monkeypatch.chdir(RECIPES.parent.parent)
    assert model() == "examples/demo/checkpoint"  # recorded so, it holds in every clone
    assert read_recipe(RECIPES / "own-folder.yaml", field_names(GROUPS))["model"] == "openai/clip-vit-base-patch16"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("recipe_version: 2\nrate: 1\n", "recipe_version: 2.*reads 1"),
        ("rate: 1\n", "recipe_version: None"),
        ("recipe_version: 1\nratte: 1\n", "unknown field 'ratte'; did you mean 'rate'"),
        ("- 1\n", "must hold `field: value` lines"),
        ("rate: [1\n", "is not YAML"),
        ("recipe_version: 1\nextends: other\n", "there is no recipe .*other.yaml"),
        ("recipe_version: 1\nextends: mine\n", "extends itself"),
        ("recipe_version: 1\nrate: 1\nrate: 2\n", "'rate' occurs twice"),
        ("recipe_version: 1\n5: 1\n", "unknown field 5"),
        ("recipe_version: 1\n? '" + "k" * 50_000 + "'\n: 1\n", "unknown field 'kkk"),
        ('recipe_version: 1\n"a\\n\\e[2J": 1\n', "unknown field 'a"),
    ],
)
def test_recipes_that_cannot_be_used(tmp_path, content, message):
    (tmp_path / "mine.yaml").write_text(content)
    with pytest.raises(RecipeError, match=message) as error:
        read_recipe(tmp_path / "mine.yaml", {"rate"})
    assert str(error.value).isprintable() and len(str(error.value)) < 1100


def test_a_recipe_that_is_not_there_names_the_nearest():
    with pytest.raises(RecipeError, match="did you mean 'vita-clip-ssv2'.*few-shot"):
        read_recipe(RECIPES / "vitaclip-ssv2.yaml", set())


@pytest.mark.parametrize("path", sorted(RECIPES.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_recipe_makes_arguments(path, tmp_path):
    recipe = read_recipe(path, field_names(GROUPS))
    parsed = RecipeParser(GROUPS).parse(["--output_dir", str(tmp_path), "--use_cpu"], recipe)
    values = {name: value for group in parsed for name, value in vars(group).items()}
    differing = {name for name in recipe if values[name] != recipe[name]} - {"total_batch_size"}
    assert all(getattr(values[name], "value", None) == recipe[name] for name in differing), differing


def test_the_papers_recipe_has_the_papers_numbers(tmp_path):
    """Batch 256, 30,000 steps, AdamW 4e-4, decay 0.05 on all, cosine to 0, no warm-up, stride 16, 16 context tokens."""

    def values(name: str) -> dict:
        recipe = read_recipe(RECIPES / f"{name}.yaml", field_names(GROUPS))
        groups = RecipeParser(GROUPS).parse(["--output_dir", str(tmp_path), "--use_cpu"], recipe)
        return {name: value for group in groups for name, value in vars(group).items()}

    paper = values("vita-clip-k400")
    expected = {
        "num_frames": 8, "num_context_tokens": 16, "num_global_prompts": 8, "train_cls_projection": True,
        "frame_stride": 16, "sampling": "dense_random", "rand_augment": "rand-m7-n4-mstd0.5-inc1", "flip": 0.0,
        "max_steps": 30000, "learning_rate": 4e-4, "weight_decay": 0.05, "warmup_steps": 0, "max_grad_norm": 0,
        "decay_all": True, "total_batch_size": 256,
    }  # fmt: skip
    assert {name: paper[name] for name in expected} == expected
    assert paper["lr_scheduler_type"].value == "cosine"
    assert paper["gradient_accumulation_steps"] * paper["per_device_train_batch_size"] == 256
    released = values("vita-clip-k400-released")
    assert (released["num_context_tokens"], released["train_cls_projection"]) == (8, False)
    assert values("vita-clip-k400-16f")["num_frames"] == 16


def test_total_batch_must_divide(tmp_path):
    with pytest.raises(RecipeError, match="`total_batch_size` 10 is not a multiple of 4"):
        RecipeParser(GROUPS).parse(
            [
                "--output_dir",
                str(tmp_path),
                "--use_cpu",
                "--total_batch_size",
                "10",
                "--per_device_train_batch_size",
                "4",
            ],
            {},
        )


def test_prompt_settings_are_those_of_the_configurations():
    ours = {item.name: item for item in fields(ModelArguments)}
    for config, expected in (
        (VitaClipVisionConfig(), {"num_frames": 8, "num_global_prompts": 8, "train_cls_projection": True}),
        (VitaClipTextConfig(), {"num_context_tokens": 16, "context_position": "end", "context_init": None}),
    ):
        added = {item.name for item in fields(config)} - {item.name for item in fields(type(config).__base__)}
        added -= {"pool_first_eos"}  # a fact of the backbone
        assert expected.items() <= {name: getattr(config, name) for name in added}.items()
        assert added <= ours.keys() and "patch_size" not in ours
        for name in added:
            assert (ours[name].default, bool(ours[name].metadata["help"])) == (getattr(config, name), True), name


def test_choices_of_prompt_settings():
    (chosen,) = RecipeParser((ModelArguments,)).parse(["--context_position", "middle", "--num_frames", "4"], {})
    assert (chosen.context_position, chosen.num_frames, chosen.class_specific_context) == ("middle", 4, True)
    with pytest.raises(RecipeError, match="--context_position.*: invalid choice: 'left'"):
        RecipeParser((ModelArguments,)).parse(["--context_position", "left"], {})


def test_help_is_in_groups(capsys):
    with pytest.raises(SystemExit) as finished:
        train_script.main(["--help"])
    printed = capsys.readouterr().out
    assert finished.value.code == 0
    titles = ["usage: vitaclip train", "vitaclip train own-folder", "\nmodel:", "\nvideos:", "\naugmentation", "\nrun:"]
    places = [printed.index(title) for title in [*titles, "\ntraining ("]]
    assert places == sorted(places)
    assert "--no_use_summary_prompt" not in printed
    assert "Learned prompts of the whole video" in printed


def test_environment_names_versions():
    import torch
    import transformers

    found = package_versions()
    assert found["torch"] == torch.__version__.split("+")[0]
    assert found["transformers"] == transformers.__version__
