"""The generated card says what is recorded, and says what is not."""

import json
import re
from pathlib import Path

import pytest
import yaml
from huggingface_hub import ModelCard
from tiny_models import tiny_model, tiny_processor
from transformers.pipelines import PIPELINE_REGISTRY

from vitaclip_hf import load_checkpoint
from vitaclip_hf.conversion import model_card
from vitaclip_hf.data.annotations import read_annotations
from vitaclip_hf.loading.prompts_alone import fingerprint_of_tensors


ROOT = Path(__file__).parents[2]
DEMO = ROOT / "examples" / "demo" / "checkpoint"
HEADINGS = ["The model", "Use", "Data and training", "Results", "Paper, released code, and this model"]
HEADINGS += ["Limits", "Biases", "Licence", "Citation"]
RESULTS = {
    "protocol": {
        "name": "ucf101", "task": "zero-shot", "num_frames": 8, "sampling": "uniform", "frame_stride": 16,
        "num_views": 1, "num_spatial_views": 1, "templates": ["a video of {}."], "spelling": "camel",
    },
    "limited": None, "warnings": [], "date": "2026-11-21T00:00:00+00:00",
    "rows": {
        row: {
            "splits": {s: {"top1": t, "top5": 0.9, "mean_class": 0.5} for s, t in (("1", a), ("2", a + 0.02))},
            "top1": {"mean": a + 0.01, "std": 0.0141},
            **{name: {"mean": mean, "std": 0.0} for name, mean in (("top5", 0.9), ("mean_class", 0.5))},
        }
        for row, a in (("vita_clip", 0.74), ("frozen_clip", 0.70))
    },
    "splits": {
        split: {
            "list": f"testlist0{split}.txt", "list_sha256": split * 64, "text": "zero-shot",
            "files_sha256": {f"testlist0{split}.txt": "a" * 64} if split == "2" else dict.fromkeys("abcd", "b" * 64),
            "videos": {"listed": 10, "asked_for": 10, "evaluated": 9, "missing": 1, "failed": 0},
        }
        for split in ("1", "2")
    },
    "model": {"name": "test-org/tiny", "revision": None, "sha256": "f" * 64, "dtype": "float32"},
    "cost": {"gmacs_per_view": {"vita_clip": 1.5, "plain_clip": 2.5}},
}  # fmt: skip


@pytest.fixture(scope="module")
def model(tokenizer):
    return tiny_model(tokenizer=tokenizer)


@pytest.fixture(scope="module")
def processor(tokenizer):
    return tiny_processor(tokenizer)


@pytest.fixture
def make(model, processor, tmp_path):
    """The card of the tiny model, with files beside it: of plain data, or text as it is."""

    def write(license=None, **files) -> str:
        for name, content in files.items():
            text = content if isinstance(content, str) else json.dumps(content)  # which is YAML too
            (tmp_path / f"{name}.{'json' if name in ('run', 'results') else 'yaml'}").write_text(text)
        return model_card.make_card(tmp_path, "test-org/tiny", model, processor, license=license)

    return write


def sections(card: str) -> dict[str, str]:
    parts = re.split(r"^## (.*)$", card, flags=re.M)
    return {title: text.strip() for title, text in zip(parts[1::2], parts[2::2], strict=True)}


def test_card_at_the_root_is_true():
    """Its metadata and its table of the model are those of the demo checkpoint."""
    demo = load_checkpoint(DEMO)
    card = model_card.make_card(DEMO, "examples/demo/checkpoint", demo.model, demo.processor, remote_code=False)
    stored = (ROOT / "MODEL_CARD.md").read_text()
    assert ModelCard(card).data.to_dict() == ModelCard(stored).data.to_dict()
    rows = [line for line in sections(card)["The model"].splitlines() if line.startswith("| ")]
    assert len(rows) == 9 and all(row in stored for row in rows), "write it anew with `make_card`"


def test_nothing_recorded_is_said(make):
    card = make()
    found = sections(card)
    assert list(found) == HEADINGS
    assert found["Data and training"] == "Not recorded beside this checkpoint."
    assert found["Results"].startswith("We have not measured this checkpoint.")
    assert "{{" not in card and "{%" not in card and "\n\n\n" not in card
    blocks = re.findall(r"```python\n(.*?)```", card, re.S)
    assert [block.count("trust_remote_code=True") for block in blocks] == [0, 1]
    assert "which this card does not know" in found["Biases"] and "was trained on image-text" not in found["Biases"]
    data = ModelCard(card).data
    assert data.license is None and data.library_name == "transformers"
    assert data.pipeline_tag in PIPELINE_REGISTRY.get_supported_tasks()
    assert "zero-shot-video-classification" in data.tags
    assert data.eval_results is None and data.base_model is None


def measured(model, /, **changes) -> dict:
    """RESULTS as those of this model."""
    return RESULTS | {"model": RESULTS["model"] | {"sha256": fingerprint_of_tensors(model.state_dict())}} | changes


def test_results_with_their_protocol(make, model):
    card = make(results=measured(model))
    text = sections(card)["Results"]
    lines = {" ".join(line.split()) for line in text.splitlines()}
    assert {"| 1, Vita-CLIP | 74.0 | 90.0 | 50.0 |", "| 1, frozen CLIP | 70.0 | 90.0 | 50.0 |"} < lines
    assert "- 1: videos 9 of 10; 1 missing, 0 failed" in lines
    assert "75.0 ± 1.4" in text and "71.0 ± 1.4" in text
    assert "templates `a video of {}.`" in text and "not measured" not in text
    assert f"\n- split 1: `testlist01.txt`, 4 files; as it was read, SHA-256 `{'1' * 64}`\n" in text
    hashes = f"SHA-256 `{'a' * 64}`; as it was read, SHA-256 `{'2' * 64}`"
    assert f"\n- split 2: `testlist02.txt`, {hashes}\n" in text
    top1 = ModelCard(card).data.eval_results[0]
    assert (top1.metric_value, top1.dataset_name) == (75.0, "ucf101")
    assert top1.metric_name == "zero-shot top-1, mean of 2 split(s), percent"
    card = make(results=measured(model, limited="limited to 2 videos a split"))  # no result for the Hub
    assert "**limited to 2 videos a split**" in card and ModelCard(card).data.eval_results is None


def test_texts_of_the_author(make):
    texts = {"title": "Ours", "training": "At home.", "limits": "- Many.", "labels": ['a "b"', "é"], "license": "mit"}
    card = make(card=texts)
    found = sections(card)
    assert "\n# Ours\n" in card and found["Limits"] == "- Many."
    assert found["Data and training"] == "At home."
    assert 'candidate_labels=["a \\"b\\"", "é"]' in found["Use"]
    assert ModelCard(card).data.license == "mit" and "The weights: `mit`" in found["Licence"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("card", "limit: few", "limit"),
        ("card", "a: [", "card.yaml"),
        *(("card", text, text.split(":")[0]) for text in ("summary: 5", "labels: [true]", "base_model: /home/me/clip")),
        ("recipe", "- a", "recipe.yaml"),
        ("results", "{}", "not the results.json"),
        ("results", json.dumps(RESULTS | {"rows": 5}), "not the results.json"),
        ("results", json.dumps(RESULTS), "of another model: its weights are ffffffffffff"),
        ("run", "{", "run.json"),
        ("run", "[]", "run.json"),
    ],
)
def test_damaged_files_beside_the_checkpoint(make, name, content, message):
    with pytest.raises(ValueError, match=f"{name}.(yaml|json).*{re.escape(message)}|{re.escape(message)}"):
        make(**{name: content})


@pytest.mark.parametrize("split", [{}, {"files_sha256": 5}])
def test_results_without_the_sums_of_their_lists(make, model, split):
    known = {name: value for name, value in RESULTS["splits"]["1"].items() if name != "files_sha256"}
    with pytest.raises(ValueError, match="files_sha256"):
        make(results=measured(model, splits={"1": known | split}))


def test_no_secret_and_no_folder_of_the_author(make, model, tmp_path):
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
    names = ("hub_token", "wandb_api_key", "auth_token", "hub_model_id")
    recipe = dict.fromkeys(names, "secret") | {"model": "ORG/NAME", "num_context_tokens": 8}
    recipe["extra"] = [str(home / "videos"), {"deep": [f"x={home}/y"]}]
    data = {"train": {"source": sources[0]}, "validation": {"source": sources[1]}, "other": sources}
    name = {"name": str(home / "checkpoint"), "revision": None}
    card = make(
        recipe=recipe,
        run={"data": data, "environment": {"token": "secret", "at": str(home / "x")}},
        results=measured(model, model=measured(model)["model"] | name),
    )
    assert "somebody" not in card and "secret" not in card and "~/me" not in card
    assert "list.txt" in card and "num_context_tokens: 8" in card
    texts = ["https://host/a/b.zip", "and / or", "1/2 of a/b/c", "ORG/NAME", "rand-m7-n4", "0.08/1.0"]  # no paths
    assert model_card.without_private(texts) == texts


@pytest.mark.parametrize(
    ("texts", "recipe", "run", "expected"),
    [
        ({"base_model": "org/clip"}, {"model": "other/clip"}, {"base_revision": "0" * 40}, "org/clip"),
        ({}, {"model": "org/clip"}, {"base_revision": "0" * 40}, "org/clip"),
        ({}, {"model": "org/clip", "revision": "main"}, {}, "org/clip"),
        ({}, {"model": "org/clip"}, {}, None),
        ({}, {"model": "/home/me/clip"}, {"base_revision": "0" * 40}, None),
    ],
)
def test_base_model(make, tmp_path, monkeypatch, texts, recipe, run, expected):
    (tmp_path / "elsewhere" / "org" / "clip").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "elsewhere")  # what the author's current folder holds does not matter
    assert ModelCard(make(card=texts, recipe=recipe, run=run)).data.base_model == expected


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
def test_no_licence_that_nobody_stated(make, texts, given, stated, text):
    card = make(card=texts, license=given)
    metadata = yaml.safe_load(card.split("---")[1])
    licence = sections(card)["Licence"].removeprefix("The code in this folder and package is Apache-2.0 (`LICENSE`). ")
    assert metadata.get("license") == stated and ("license" in metadata) is (stated is not None)
    assert metadata.get("license_name") == texts.get("license_name")
    assert licence.startswith(text) and "apache" not in licence.lower()


def test_an_untrained_start(processor, tmp_path):
    """Its classes have no names: the card says so and shows other labels."""
    card = model_card.make_card(tmp_path, "test-org/tiny", tiny_model(id2label={0: "LABEL_0"}), processor)
    assert "untrained" in card and 'candidate_labels=["a person running", "a person cooking"]' in card
    assert "print(classifier" in card and '"my.mp4", top_k' not in card
