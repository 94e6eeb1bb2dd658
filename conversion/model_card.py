"""The model card of a checkpoint, from one template and from the files beside the checkpoint.

    card.yaml       texts that only the author knows; `FIELDS` lists them
    recipe.yaml     the resolved recipe, by `vitaclip train`
    run.json        versions, data and date of the training, by `vitaclip train`
    results.json    measurements, by `vitaclip evaluate`

Each file is optional. For a missing one the card says "not recorded"; it never makes up a figure.
"""

import json
import re
from importlib import resources
from pathlib import Path
from string import Template
from typing import Any

import yaml
from huggingface_hub import EvalResult, ModelCardData
from transformers import PreTrainedModel

from vitaclip_hf import VitaClipProcessor, __version__
from vitaclip_hf.data.configuration_files import ConfigurationFileError, read_recipe_beside
from vitaclip_hf.loading.prompts_alone import checkpoint_sizes, fingerprint_of_tensors

from .hub_folder import PublishError, expected_errors, read_json


TEMPLATE = resources.files(__package__) / "model_card_template.md"
TEXT_FIELDS = (
    "title",
    "summary",
    "training",
    "results",
    "limits",
    "biases",
    "license",
    "license_name",
    "license_link",
    "weights_license",
    "base_model",
)
LIST_FIELDS = ("labels", "tags")
FIELDS = (*TEXT_FIELDS, *LIST_FIELDS)
TAGS = ["vita-clip", "clip", "video", "zero-shot-video-classification", "prompt-tuning"]
HUB_ID = re.compile(r"\w[\w.-]*/\w[\w.-]*")
# Private fields of a recipe or record: the author's folders, account and secrets.
PRIVATE_FIELD = re.compile(r"output_dir|logging_dir|hub_.*|(.*_)?(token|password|secret|api_key)", re.IGNORECASE)
# An absolute path anywhere in a text, but not within a URL.
FOLDERS = re.compile(r"(?:file://|(?<![\w.:/~-]))(?:~|[A-Za-z]:)?[/\\](?:[^\s/\\,;:'\"]+[/\\])+")

NOT_RECORDED = "Not recorded beside this checkpoint."
NOT_MEASURED = (
    "We have not measured this checkpoint. `vitaclip evaluate` does, beside a frozen CLIP and under a "
    "protocol that its report describes in full."
)
LIMITS = """\
- Scores are a softmax over the given labels. They rank these labels; they are not the probability that a video shows
  one of them. A video that shows none of them still gets a best label.
- The model sees a few sampled frames of a video, not what happens between them. It hears no sound.
- Its learned contexts belong to a closed set of classes (`id2label` in `config.json`). How well it scores other labels
  is known only as far as it is measured above."""
BIASES = """\
The frozen CLIP has the biases of its training data, which this card does not know. A CLIP trained on image-text pairs
from the web knows some people, places and activities better than others, and repeats the associations of its sources.
Training prompts does not remove these biases, and they are not measured here. Do not use the model to identify people,
for surveillance, or for decisions about people."""
WEIGHTS_LICENSE = (
    "The weights: `{license}`, as stated by those who published them here. The frozen CLIP within them keeps the "
    "licence of its own source."
)
NO_LICENSE = (
    "The licence of the weights is not stated, and the licence of the code does not cover them. The frozen CLIP within "
    "them keeps the licence of its own source."
)

WITH_PACKAGE = """\
With the package `vitaclip_hf` installed:

```python
from transformers import pipeline
import vitaclip_hf

classifier = pipeline("zero-shot-video-classification", model="{model}")
print(classifier("my.mp4", candidate_labels={labels}))
```"""
OWN_CLASSES = """

Its own classes, through their learned contexts:

```python
from transformers import pipeline
import vitaclip_hf

classifier = pipeline("video-classification", model="{model}")
print(classifier("my.mp4", top_k=3))
```"""
NO_CLASSES = """

This is an untrained start: its classes have no names, so the closed-set pipeline cannot be used yet. Name the classes
with `model.set_classes(names, tokenizer)` and train the prompts (`vitaclip train`)."""
NEUTRAL_LABELS = ["a person running", "a person cooking"]
WITHOUT_PACKAGE = """

Without it, transformers runs the code in this folder (read it first; PyAV and torchvision must be installed):

```python
from transformers import pipeline

classifier = pipeline("zero-shot-video-classification", model="{model}", trust_remote_code=True)
print(classifier("my.mp4", candidate_labels={labels}))
```"""


def read_author_texts(checkpoint: Path) -> dict[str, Any]:
    """The texts of `card.yaml` beside the checkpoint, or an empty dict.

    Raises:
        PublishError: the file is no YAML mapping, or has an unknown field.
    """
    file = checkpoint / "card.yaml"
    if not file.is_file():
        return {}
    try:
        texts = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise PublishError(f"{file}: not readable as YAML ({error}).") from error
    unknown = sorted(set(texts) - set(FIELDS)) if isinstance(texts, dict) else ["no `field: text` lines"]
    if unknown:
        raise PublishError(f"{file}: unknown: {', '.join(map(str, unknown))}; known are {', '.join(FIELDS)}.")
    for name, value in texts.items():
        items = value if name in LIST_FIELDS else [value]
        if not isinstance(items, list) or not items or not all(isinstance(i, str) and i.strip() for i in items):
            kind = "a list of texts" if name in LIST_FIELDS else "a text"
            raise PublishError(f"{file}: `{name}` must be {kind} and not empty, got {value!r}.")
    if not HUB_ID.fullmatch(texts.get("base_model", "ORG/NAME")):
        raise PublishError(f"{file}: `base_model` must be a Hub id, ORG/NAME, got {texts['base_model']!r}.")
    return texts


def read_results(checkpoint: Path, model: PreTrainedModel) -> dict | None:
    """The content of `results.json` beside the checkpoint, or None.

    Raises:
        PublishError: the file is not of `vitaclip evaluate`, or measures other weights.
    """
    file = checkpoint / "results.json"
    if not file.is_file():
        return None
    results = read_json(file)
    missing = [name for name in ("protocol", "rows", "splits", "model", "cost") if not results.get(name)]
    if missing:
        raise PublishError(f"{file}: no report of `vitaclip evaluate`, it lacks {', '.join(missing)}.")
    with expected_errors(f"{file}: no report of `vitaclip evaluate`"):
        measured, ours = results["model"]["sha256"], fingerprint_of_tensors(model.state_dict())
        _results_table(results)
        _eval_results(results)
        _describe_lists(results)
    if measured != ours:
        raise PublishError(
            f"{file}: of another model: its weights are {str(measured)[:12]}…, those of the checkpoint {ours[:12]}…; "
            "evaluate this checkpoint, or take the file away."
        )
    return harmless(without_private(results))


def read_recipe(checkpoint: Path) -> dict[str, Any]:
    try:
        return read_recipe_beside(checkpoint) or {}
    except ConfigurationFileError as error:
        raise PublishError(str(error)) from error


def without_private(value: Any) -> Any:
    """Removes private fields at any depth, and keeps only the last part of absolute paths."""
    if isinstance(value, dict):
        return {name: without_private(v) for name, v in value.items() if not PRIVATE_FIELD.fullmatch(str(name))}
    if isinstance(value, list):
        return [without_private(item) for item in value]
    if isinstance(value, str) and Path(value).is_absolute():
        return Path(value).name
    return FOLDERS.sub("", value) if isinstance(value, str) else value


def harmless(value: Any) -> Any:
    """Texts of files that others may have written, at any depth: one line each, without Markdown and HTML."""
    if isinstance(value, dict):
        return {harmless(name): harmless(item) for name, item in value.items()}
    if isinstance(value, list):
        return [harmless(item) for item in value]
    if not isinstance(value, str):
        return value
    text = " ".join(value.split()).replace("`", "'").replace("<", "&lt;")
    return re.sub(r"([\[\]|])", r"\\\1", text)


def fenced(language: str, text: str) -> str:
    """A block of code whose fence is longer than any within it."""
    fence = "`" * max(3, 1 + max(map(len, re.findall("`+", text)), default=0))
    return f"{fence}{language}\n{text}\n{fence}"


def describe_training(recipe: dict[str, Any], run: dict[str, Any]) -> str:
    """Recipe, data and versions, as `vitaclip train` records them."""
    if not recipe and not run:
        return NOT_RECORDED
    parts = []
    if "data" in run:
        parts.append("Data, with the hash of each list:\n\n" + fenced("json", json.dumps(run["data"], indent=1)))
    if recipe:
        text = yaml.safe_dump(recipe, sort_keys=False, allow_unicode=True).strip()
        parts.append("The recipe, for `vitaclip train`:\n\n" + fenced("yaml", text))
    run = harmless({name: value for name, value in run.items() if name in ("ranks", "date", "environment")})
    facts = [f"{run[name]} {title}" for name, title in (("ranks", "rank(s)"), ("date", "(UTC)")) if name in run]
    if isinstance(run.get("environment"), dict):
        facts.append(", ".join(f"{name} {value}" for name, value in run["environment"].items()))
    return "\n\n".join([*parts, *(["Trained on " + "; ".join(facts) + "."] if facts else [])])


def describe_architecture(model: PreTrainedModel) -> str:
    """A table of the architecture, from the configuration and the weights."""
    model.freeze_backbone()
    trained, parameters = model.get_nb_trainable_parameters()
    sizes = checkpoint_sizes(model)
    vision, text = model.config.vision_config, model.config.text_config
    kinds = [
        *(["summary"] if vision.use_summary_prompt else []),
        *(["local"] if vision.use_local_prompts else []),
        *([f"{vision.num_global_prompts} global"] if vision.num_global_prompts else []),
    ]
    context = "one for each class" if text.class_specific_context else "one for all classes"
    rows = {
        "parameters, all / trained": f"{parameters:,} / {trained:,}",
        "bytes of weights, whole / prompts alone": f"{sizes.whole:,} / {sizes.prompts:,}",
        "classes": f"{model.config.num_labels:,}",
        "video tower": f"{vision.num_hidden_layers} layers, width {vision.hidden_size}, "
        f"{vision.image_size}-pixel frames, patches of {vision.patch_size}",
        "text tower": f"{text.num_hidden_layers} layers, width {text.hidden_size}, {text.vocab_size:,} tokens",
        "frames of a clip": f"{vision.num_frames}",
        "vision prompts": ", ".join(kinds) or "none",
        "context tokens": f"{text.num_context_tokens}, {context}, class name at the {text.context_position}",
    }
    return "\n".join(["| | |", "| --- | --- |", *(f"| {name} | {value} |" for name, value in rows.items())])


def describe_use(model_id: str, labels: list[str], remote_code: bool, has_classes: bool) -> str:
    code = WITH_PACKAGE + (OWN_CLASSES if has_classes else NO_CLASSES) + (WITHOUT_PACKAGE if remote_code else "")
    return code.format(model=model_id, labels=json.dumps(labels, ensure_ascii=False))


def base_model(texts: dict[str, Any], recipe: dict[str, Any], run: dict[str, Any]) -> str | None:
    """The Hub id of the frozen CLIP: as the author says, else what a recorded training started from.

    ORG/NAME in a recipe can be a folder too. It counts as an id only if a revision of it is recorded.
    """
    trained_from, revision = recipe.get("model"), run.get("base_revision") or recipe.get("revision")
    is_id = isinstance(trained_from, str) and HUB_ID.fullmatch(trained_from) and revision
    return texts.get("base_model", trained_from if is_id else None)


def metadata(
    model_id: str, texts: dict[str, Any], recipe: dict[str, Any], run: dict[str, Any], results: dict | None
) -> ModelCardData:
    """The metadata for the Hub: licence, task, base model, and results of a complete protocol."""
    measured = results is not None and not results.get("limited") and "vita_clip" in results["rows"]
    return ModelCardData(
        license=texts.get("license"),
        license_name=texts.get("license_name"),
        license_link=texts.get("license_link"),
        library_name="transformers",
        pipeline_tag="video-classification",
        base_model=base_model(texts, recipe, run),
        tags=[*TAGS, *texts.get("tags", [])],
        model_name=model_id.split("/")[-1] if measured else None,
        eval_results=_eval_results(results) if results is not None and measured else None,
    )


def _eval_results(results: dict) -> list[EvalResult]:
    protocol, row = results["protocol"], results["rows"].get("vita_clip", {"splits": []})
    figures = {"top1": "top-1", "top5": "top-5", "mean_class": "mean per-class accuracy"}
    splits = f"of {len(row['splits'])} split(s), percent"
    return [
        EvalResult(
            task_type="video-classification",
            dataset_type=protocol["name"],
            dataset_name=protocol["name"],
            metric_type="accuracy",
            metric_name=f"{protocol['task']} {title}, {kind.replace('_', ' ')} {splits}",
            metric_value=round(100 * row[name][kind], 2),
        )
        for name, title in figures.items()
        for kind in ("mean", "harmonic_mean")
        if row.get(name, {}).get(kind) is not None
    ]


def describe_results(texts: dict[str, Any], results: dict | None) -> str:
    """The author's text, then the measured table with everything that it depends on."""
    parts = [texts["results"].strip()] if "results" in texts else []
    if results is not None:
        parts += [_results_table(results).strip(), _describe_lists(results)]
    return "\n\n".join(parts) or NOT_MEASURED


def _results_table(results: dict) -> str:
    from vitaclip_hf.evaluation.results_table import markdown_table

    return markdown_table(results)


def _describe_lists(results: dict) -> str:
    lines = []
    for split, about in results["splits"].items():
        files = [f"`{name}`, SHA-256 `{sha256}`" for name, sha256 in about["files_sha256"].items()]
        if len(files) > 3:  # HMDB51 comes as a list for each class
            files = [f"`{about['list']}`, {len(files)} files"]
        files.append(f"as it was read, SHA-256 `{about['list_sha256']}`")
        lines.append(f"- split {split}: {'; '.join(files)}")
    return "\n".join(lines)


def with_license(texts: dict[str, Any], license: str | None) -> dict[str, Any]:
    """The author's texts under another licence, without the texts about the author's own licence."""
    if license is None:
        return texts
    if license == texts.get("license", license):
        return texts | {"license": license}
    kept = {
        name: text for name, text in texts.items() if name not in ("license_name", "license_link", "weights_license")
    }
    return kept | {"license": license}


def describe_license(texts: dict[str, Any]) -> str:
    if "weights_license" in texts:
        return texts["weights_license"].strip()
    name = texts.get("license_name", texts.get("license"))
    return NO_LICENSE if name is None else WEIGHTS_LICENSE.format(license=harmless(name))


def make_card(
    checkpoint: Path,
    model_id: str,
    model: PreTrainedModel,
    processor: VitaClipProcessor,
    remote_code: bool = True,
    license: str | None = None,
) -> str:
    """
    The text of the model card.

    Args:
        checkpoint (`Path`): folder with the weights, and perhaps card.yaml, recipe.yaml, run.json and results.json.
        model_id (`str`): the name that the card's code loads.
        model ([`VitaClipModel`]): the loaded model.
        processor ([`VitaClipProcessor`]): the loaded processor.
        remote_code (`bool`, defaults to `True`): whether the folder brings its own code.
        license (`str`, *optional*): of the weights; by default that of card.yaml.

    Raises:
        PublishError: one of the files beside the weights is damaged.
    """
    texts, results = with_license(read_author_texts(checkpoint), license), read_results(checkpoint, model)
    run = read_json(checkpoint / "run.json") if (checkpoint / "run.json").is_file() else {}
    recipe, run = without_private(read_recipe(checkpoint)), without_private(run)
    classes = [model.config.id2label[index] for index in range(model.config.num_labels)]
    named = model.class_prompts.have_names
    data = metadata(model_id, texts, recipe, run, results)
    what = f"with {len(classes):,} classes" if named else "untrained: its prompts are new and its classes have no names"
    summary = f"Vita-CLIP on a frozen CLIP, {what}. Published with vitaclip_hf {__version__}."
    labels = texts.get("labels", classes[:2] if named else NEUTRAL_LABELS)
    return Template(TEMPLATE.read_text(encoding="utf-8")).substitute(
        metadata=data.to_yaml().strip(),
        title=texts.get("title", model_id),
        summary=texts.get("summary", summary).strip(),
        architecture=describe_architecture(model),
        use=describe_use(model_id, labels, remote_code, named),
        training=texts["training"].strip() if "training" in texts else describe_training(recipe, run),
        results=describe_results(texts, results),
        train_cls_projection=model.config.vision_config.train_cls_projection,
        num_context_tokens=model.config.text_config.num_context_tokens,
        resample=int(processor.video_processor.resample),
        antialias=processor.video_processor.antialias,
        limits=texts.get("limits", LIMITS).strip(),
        biases=texts.get("biases", BIASES).strip(),
        weights_license=describe_license(texts),
    )
