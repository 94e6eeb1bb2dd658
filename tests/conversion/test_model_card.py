"""The generated card says what is recorded, and says what is not."""

import json
import re
from pathlib import Path

import pytest
import yaml
from huggingface_hub import ModelCard
from tiny_models import tiny_model
from transformers.pipelines import PIPELINE_REGISTRY

from vitaclip_hf import VitaClipProcessor, VitaClipVideoProcessor
from vitaclip_hf.conversion import model_card
from vitaclip_hf.conversion.hub_folder import PublishError, load_checked
from vitaclip_hf.data.annotations import read_annotations
from vitaclip_hf.loading.prompts_alone import fingerprint_of_tensors


ROOT = Path(__file__).parents[2]
DEMO = ROOT / "examples" / "demo" / "checkpoint"
HEADINGS = [
    "The model",
    "Use",
    "Data and training",
    "Results",
    "Paper, released code, and this model",
    "Limits",
    "Biases",
    "Licence",
    "Citation",
]
RESULTS = {
    "protocol": {
        "name": "ucf101",
        "task": "zero-shot",
        "frames": 8,
        "sampling": "uniform",
        "stride": 16,
        "views": 1,
        "spatial_views": 1,
        "templates": ["a video of {}."],
        "spelling": "camel",
    },
    "limited": None,
    "warnings": [],
    "rows": {
        row: {
            "splits": {s: {"top1": t, "top5": 0.9, "mean_class": 0.5} for s, t in (("1", a), ("2", a + 0.02))},
            "top1": {"mean": a + 0.01, "std": 0.0141},
            "top5": {"mean": 0.9, "std": 0.0},
            "mean_class": {"mean": 0.5, "std": 0.0},
        }
        for row, a in (("vita_clip", 0.74), ("frozen_clip", 0.70))
    },
    "splits": {
        split: {
            "list": f"testlist0{split}.txt",
            "list_sha256": split * 64,
            "files_sha256": {f"testlist0{split}.txt": "a" * 64} if split == "2" else dict.fromkeys("abcd", "b" * 64),
            "text": "zero-shot",
            "videos": {"listed": 10, "asked_for": 10, "evaluated": 9, "missing": 1, "failed": 0},
        }
        for split in ("1", "2")
    },
    "model": {"name": "test-org/tiny", "revision": None, "sha256": "f" * 64},
    "cost": {"gmacs_per_view": {"vita_clip": 1.5, "plain_clip": 2.5}},
    "date": "2026-11-21T00:00:00+00:00",
}


@pytest.fixture(scope="module")
def model(tokenizer):
    return tiny_model(tokenizer=tokenizer)


@pytest.fixture(scope="module")
def processor(tokenizer):
    return VitaClipProcessor(VitaClipVideoProcessor(num_frames=4), tokenizer)


def sections(card: str) -> dict[str, str]:
    parts = re.split(r"^## (.*)$", card, flags=re.M)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def test_card_at_the_root_is_what_the_template_gives():
    card = model_card.make_card(DEMO, "examples/demo/checkpoint", *load_checked(DEMO), remote_code=False)
    assert card == (ROOT / "MODEL_CARD.md").read_text(), (
        "run: vitaclip card examples/demo/checkpoint --output MODEL_CARD.md"
    )


def test_nothing_recorded_is_said(model, processor, tmp_path):
    card = model_card.make_card(tmp_path, "test-org/tiny", model, processor)
    found = sections(card)
    assert list(found) == HEADINGS
    assert found["Data and training"].strip() == "Not recorded beside this checkpoint."
    assert found["Results"].strip().startswith("We have not measured this checkpoint.")
    assert "$" not in card
    assert [block.count("trust_remote_code=True") for block in re.findall(r"```python\n(.*?)```", card, re.S)] == [
        0,
        0,
        1,
    ]


def test_metadata(model, processor, tmp_path):
    data = ModelCard(model_card.make_card(tmp_path, "test-org/tiny", model, processor)).data
    assert data.license is None and data.library_name == "transformers"
    assert data.pipeline_tag in PIPELINE_REGISTRY.get_supported_tasks()
    assert "zero-shot-video-classification" in data.tags
    assert data.eval_results is None and data.base_model is None


def test_parameters_and_sizes(model, processor, tmp_path):
    table = sections(model_card.make_card(tmp_path, "test-org/tiny", model, processor))["The model"]
    prompts = [
        name
        for name in model.state_dict()
        if ".prompts." in name or "time_embedding" in name or name.startswith("class_prompts") or name == "logit_scale"
    ]
    whole = sum(t.numel() * t.element_size() for t in model.state_dict().values())
    alone = sum(model.state_dict()[name].numel() * model.state_dict()[name].element_size() for name in prompts)
    parameters = dict(model.named_parameters())
    trained = sum(parameters[name].numel() for name in prompts if name in parameters)
    assert f"| {sum(p.numel() for p in parameters.values()):,} / {trained:,} |" in table
    assert f"| {whole:,} / {alone:,} |" in table
    assert "| 2 layers, width 48, 32-pixel frames, patches of 8 |" in table
    assert "| 4, one for each class, class name at the end |" in table


def test_recipe_and_run(model, processor, tmp_path):
    recipe = {"model": "openai/clip-vit-base-patch16", "videos": "/home/me/k400", "output_dir": "/home/me/runs/1"}
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe | {"learning_rate": 4e-4}))
    run = {
        "data": {"classes": 3, "train": {"sha256": "ab" * 32}},
        "ranks": 8,
        "base_revision": "1" * 40,
        "date": "2026-11-21T10:00:00+00:00",
    }
    (tmp_path / "run.json").write_text(json.dumps(run | {"environment": {"torch": "2.15.0"}, "command": "/home/me/x"}))
    card = model_card.make_card(tmp_path, "test-org/tiny", model, processor)
    training = sections(card)["Data and training"]
    shown = yaml.safe_load(re.search(r"```yaml\n(.*?)```", training, re.S)[1])
    assert shown == {"model": "openai/clip-vit-base-patch16", "videos": "k400", "learning_rate": 4e-4}
    assert json.loads(re.search(r"```json\n(.*?)```", training, re.S)[1]) == run["data"]
    assert "Trained on 8 rank(s); 2026-11-21T10:00:00+00:00 (UTC); torch 2.15.0." in training
    assert "/home/me" not in card
    assert ModelCard(card).data.base_model == "openai/clip-vit-base-patch16"


def test_results_with_their_protocol(model, processor, tmp_path):
    (tmp_path / "results.json").write_text(measured(model))
    card = model_card.make_card(tmp_path, "test-org/tiny", model, processor)
    text = sections(card)["Results"]
    assert "| 1 | 74.0 | 90.0 | 50.0 | 70.0 | 90.0 | 50.0 | 9 of 10; 1 missing, 0 failed |" in text
    assert "75.0 ± 1.4" in text and "71.0 ± 1.4" in text
    assert "8 frames (uniform), 1 × 1 views, templates `a video of {}.`, class names camel" in text
    assert "- split 1: `testlist01.txt`, 4 files; as it was read, SHA-256 `" + "1" * 64 + "`" in text
    hashes = f"SHA-256 `{'a' * 64}`; as it was read, SHA-256 `{'2' * 64}`"
    assert f"- split 2: `testlist02.txt`, {hashes}" in text
    top1 = ModelCard(card).data.eval_results[0]
    assert (top1.metric_value, top1.dataset_name) == (75.0, "ucf101")
    assert top1.metric_name == "zero-shot top-1, mean of 2 split(s), percent"


def test_a_quick_look_is_no_result_for_the_hub(model, processor, tmp_path):
    (tmp_path / "results.json").write_text(measured(model, limited="limited to 2 videos a split"))
    card = model_card.make_card(tmp_path, "test-org/tiny", model, processor)
    assert "**limited to 2 videos a split**" in card and ModelCard(card).data.eval_results is None


def test_texts_of_the_author(model, processor, tmp_path):
    texts = {"title": "Ours", "training": "At home.", "limits": "- Many.", "labels": ['a "b"', "é"], "license": "mit"}
    (tmp_path / "card.yaml").write_text(yaml.safe_dump(texts, allow_unicode=True))
    card = model_card.make_card(tmp_path, "test-org/tiny", model, processor)
    found = sections(card)
    assert "\n# Ours\n" in card and found["Limits"].strip() == "- Many."
    assert found["Data and training"].strip() == "At home."
    assert 'candidate_labels=["a \\"b\\"", "é"]' in found["Use"]
    assert ModelCard(card).data.license == "mit" and "The weights: `mit`" in found["Licence"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("card.yaml", "limit: few", "unknown: limit; known are title"),
        ("card.yaml", "a: [", "not readable as YAML"),
        ("card.yaml", "just text", "no `field: text` lines"),
        ("recipe.yaml", "- a", "must hold `field: value` lines"),
        ("results.json", "{}", "it lacks protocol, rows"),
        ("run.json", "{", "not readable as JSON"),
    ],
)
def test_damaged_files_beside_the_checkpoint(model, processor, tmp_path, name, content, message):
    (tmp_path / name).write_text(content)
    with pytest.raises(PublishError, match=f"{name}.*{re.escape(message)}"):
        model_card.make_card(tmp_path, "test-org/tiny", model, processor)


def measured(checkpoint, **changes) -> str:
    """RESULTS as those of this model."""
    name = RESULTS["model"] | {"sha256": fingerprint_of_tensors(checkpoint.state_dict())}
    return json.dumps(RESULTS | {"model": name} | changes)


def test_results_of_other_weights_are_refused(model, processor, tmp_path):
    (tmp_path / "results.json").write_text(json.dumps(RESULTS))
    with pytest.raises(PublishError, match="results.json: of another model: its weights are ffffffffffff"):
        model_card.make_card(tmp_path, "test-org/tiny", model, processor)


@pytest.mark.parametrize("part", ["protocol", "rows", "splits", "model"])
@pytest.mark.parametrize("junk", [5, {}, {"1": None}])
def test_junk_results_are_one_line(model, processor, tmp_path, part, junk):
    (tmp_path / "results.json").write_text(measured(model, **{part: junk}))
    with pytest.raises(PublishError, match="results.json: no report of `vitaclip evaluate`"):
        model_card.make_card(tmp_path, "test-org/tiny", model, processor)


def test_no_secret_and_no_folder_of_the_author(model, processor, tmp_path):
    """With what reading an annotation table really records of its source."""
    home = tmp_path / "home" / "somebody"
    for name in ("archery", "tai chi"):
        (home / "videos" / name).mkdir(parents=True)
        (home / "videos" / name / "1.mp4").touch()
    (home / "list.txt").write_text("archery/1.mp4 archery\ntai chi/1.mp4 tai chi\n")
    sources = [
        read_annotations(home / "videos").source,
        read_annotations(home / "videos", home / "list.txt").source,
        f"{home / 'list.txt'} of {home / 'videos'}, file://{home}/list.txt, ~/me/list.txt",
    ]
    assert all(str(home) in source for source in sources)
    secrets = {
        "hub_token": "secret-1",
        "wandb_api_key": "secret-2",
        "auth_token": "secret-3",
        "hub_model_id": "secret-4",
    }
    recipe = {
        "model": "ORG/NAME",
        "num_context_tokens": 8,
        "extra": [str(home / "videos"), {"deep": [f"x={home}/y"]}],
        **secrets,
    }
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    data = {"train": {"source": sources[0]}, "validation": {"source": sources[1]}, "other": sources}
    (tmp_path / "run.json").write_text(
        json.dumps({"data": data, "environment": {"token": "secret-5", "at": str(home / "x")}})
    )
    name = {"name": str(home / "checkpoint"), "sha256": fingerprint_of_tensors(model.state_dict()), "revision": None}
    (tmp_path / "results.json").write_text(measured(model, model=name))
    card = model_card.make_card(tmp_path, "test-org/tiny", model, processor)
    assert "somebody" not in card and "secret" not in card and "~/me" not in card
    assert "list.txt" in card and "num_context_tokens: 8" in card


def test_texts_that_are_no_paths_stay():
    texts = ["https://host/a/b.zip", "and / or", "1/2 of a/b/c", "ORG/NAME", "rand-m7-n4", "0.08/1.0"]
    assert model_card.without_private(texts) == texts


@pytest.mark.parametrize(
    ("texts", "recipe", "run", "expected"),
    [
        ({"base_model": "org/clip"}, {"model": "other/clip"}, {"base_revision": "0" * 40}, "org/clip"),
        ({}, {"model": "org/clip"}, {"base_revision": "0" * 40}, "org/clip"),
        ({}, {"model": "org/clip", "revision": "main"}, {}, "org/clip"),
        ({}, {"model": "runs/clip"}, {"base_revision": None}, None),
        ({}, {"model": "org/clip"}, {}, None),
        ({}, {"model": "/home/me/clip"}, {"base_revision": "0" * 40}, None),
        ({}, {"model": "runs/my/clip"}, {"base_revision": "0" * 40}, None),
        ({}, {"model": "../clip"}, {"base_revision": "0" * 40}, None),
    ],
)
def test_base_model(model, processor, tmp_path, monkeypatch, texts, recipe, run, expected):
    (tmp_path / "elsewhere" / "org" / "clip").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "elsewhere")  # what the author's current folder holds does not matter
    (tmp_path / "card.yaml").write_text(yaml.safe_dump(texts))
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    (tmp_path / "run.json").write_text(json.dumps(run))
    assert ModelCard(model_card.make_card(tmp_path, "test-org/tiny", model, processor)).data.base_model == expected


@pytest.mark.parametrize(
    "text",
    ["summary: 5", "tags: abc", "labels: [true]", "limits:", "limits: ' '", "labels: []", "base_model: /home/me/clip"],
)
def test_wrong_kinds_of_texts(model, processor, tmp_path, text):
    (tmp_path / "card.yaml").write_text(text)
    with pytest.raises(PublishError, match=f"card.yaml: `{text.split(':')[0]}` must be a"):
        model_card.make_card(tmp_path, "test-org/tiny", model, processor)


@pytest.mark.parametrize(
    ("texts", "given", "stated", "text"),
    [
        ({}, None, None, "The licence of the weights is not stated"),
        ({"license": "mit"}, None, "mit", "The weights: `mit`, as stated"),
        ({}, "cc-by-nc-4.0", "cc-by-nc-4.0", "The weights: `cc-by-nc-4.0`, as stated"),
        ({"weights_license": "As MetaCLIP."}, "cc-by-nc-4.0", "cc-by-nc-4.0", "As MetaCLIP."),
        ({"license": "mit", "weights_license": "MIT."}, "mit", "mit", "MIT."),
        ({"license": "mit", "weights_license": "MIT."}, "cc-by-nc-4.0", "cc-by-nc-4.0", "The weights: `cc-by-nc-4.0`"),
        ({"license": "other", "license_name": "lab", "license_link": "LAB"}, None, "other", "The weights: `lab`"),
    ],
)
def test_no_licence_that_nobody_stated(model, processor, tmp_path, texts, given, stated, text):
    (tmp_path / "card.yaml").write_text(yaml.safe_dump(texts))
    card = model_card.make_card(tmp_path, "test-org/tiny", model, processor, license=given)
    metadata = yaml.safe_load(card.split("---")[1])
    licence = (
        sections(card)["Licence"].strip().removeprefix("The code in this folder and package is Apache-2.0 (`LICENSE`).")
    )
    assert metadata.get("license") == stated and ("license" in metadata) is (stated is not None)
    assert metadata.get("license_name") == texts.get("license_name")
    assert licence.strip().startswith(text) and "apache" not in licence.lower()


def test_biases_say_nothing_of_a_clip_that_is_not_known(model, processor, tmp_path):
    biases = sections(model_card.make_card(tmp_path, "test-org/tiny", model, processor))["Biases"]
    assert "which this card does not know" in biases and "was trained on image-text" not in biases


def test_untrained_start(processor, tmp_path):
    card = model_card.make_card(tmp_path, "test-org/tiny", tiny_model(), processor)
    use = sections(card)["Use"]
    assert "untrained start" in use and "Its own classes" not in use and 'pipeline("video-classification"' not in use
    assert "a person running" in use and "archery" not in card
    assert "untrained: its prompts are new and its classes have no names" in card
