"""The model card of a checkpoint, from `model_card_template.md` and from the files beside the checkpoint.

    card.yaml       texts that only the author knows; `TEXT_FIELDS` and `LIST_FIELDS`
    recipe.yaml     the resolved recipe, by `vitaclip train`
    run.json        versions, data and date of the training, by `vitaclip train`
    results.json    measurements, by `vitaclip evaluate`

Each file is optional. For a missing one the card says "not recorded"; it never makes up a figure.
"""

import json
import re
from importlib import resources
from pathlib import Path
from typing import Any

import yaml
from huggingface_hub import EvalResult, ModelCard, ModelCardData
from transformers import PreTrainedModel

from vitaclip_hf import VitaClipProcessor, __version__
from vitaclip_hf.data.configuration_files import RECIPE_FILE, read_yaml
from vitaclip_hf.data.text_files import content_errors, read_json
from vitaclip_hf.loading.prompts_alone import fingerprint_of_tensors, split_tensors
from vitaclip_hf.model.configuration_vita_clip import PROMPT_FIELDS


TEMPLATE = resources.files(__package__) / "model_card_template.md"
LICENSE_FIELDS = ("license", "license_name", "license_link", "weights_license")
TEXT_FIELDS = ("title", "summary", "training", "results", "limits", "biases", "base_model", *LICENSE_FIELDS)
LIST_FIELDS = ("labels", "tags")
TAGS = ["vita-clip", "clip", "video", "zero-shot-video-classification", "prompt-tuning"]
NEUTRAL_LABELS = ["a person running", "a person cooking"]
FIGURES = {"top1": "top-1", "top5": "top-5", "mean_class": "mean per-class accuracy"}
HUB_ID = re.compile(r"\w[\w.-]*/\w[\w.-]*")
# Private fields of a recipe or record: the author's folders, account and secrets.
PRIVATE_FIELD = re.compile(r"output_dir|logging_dir|hub_.*|(.*_)?(token|password|secret|api_key)", re.IGNORECASE)
# An absolute path anywhere in a text, but not within a URL.
FOLDERS = re.compile(r"(?:file://|(?<![\w.:/~-]))(?:~|[A-Za-z]:)?[/\\](?:[^\s/\\,;:'\"]+[/\\])+")


def read_author_texts(checkpoint: Path, license: str | None = None) -> dict[str, Any]:
    """
    The texts of `card.yaml` beside the checkpoint, or an empty dict.

    Args:
        checkpoint (`Path`): the folder.
        license (`str`, *optional*): replaces the author's; texts about another licence are dropped.

    Raises:
        ValueError: the file is no YAML mapping, or has an unknown field or a wrong value.
    """
    file = checkpoint / "card.yaml"
    texts = read_yaml(file) if file.is_file() else {}
    for name, value in texts.items():
        items = value if name in LIST_FIELDS else [value]
        right = isinstance(items, list) and bool(items) and all(isinstance(i, str) and i.strip() for i in items)
        right &= name in (*TEXT_FIELDS, *LIST_FIELDS) and (name != "base_model" or bool(HUB_ID.fullmatch(str(value))))
        if not right:
            raise ValueError(
                f"{file}: wrong or unknown `{name!s:.100}: {value!s:.100}`; texts are for {', '.join(TEXT_FIELDS)}, "
                f"lists of texts for {', '.join(LIST_FIELDS)}; `base_model` is ORG/NAME."
            )
    if license is None:
        return texts
    if license != texts.get("license", license):
        texts = {name: text for name, text in texts.items() if name not in LICENSE_FIELDS}
    return texts | {"license": license}


def read_measurements(checkpoint: Path, model: PreTrainedModel) -> dict[str, Any] | None:
    """The content of `results.json` beside the checkpoint, or None.

    Raises:
        ValueError: the file is not of `vitaclip evaluate`, or measures other weights.
    """
    from vitaclip_hf.evaluation.average import read_results

    file = checkpoint / "results.json"
    if not file.is_file():
        return None
    results = read_results(file)
    measured, ours = results["model"]["sha256"], fingerprint_of_tensors(model.state_dict())
    if measured != ours:
        raise ValueError(
            f"{file}: of another model: its weights are {str(measured)[:12]}…, those of the checkpoint {ours[:12]}…; "
            "evaluate this checkpoint, or take the file away."
        )
    if not all(hasattr(split["files_sha256"], "items") for split in results["splits"].values()):
        raise ValueError(f"{file}: `files_sha256` is no table.")
    return harmless(without_private(results))


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


def training_record(checkpoint: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Recipe and run as `vitaclip train` records them, without what is private."""
    run = read_json(checkpoint / "run.json") if (checkpoint / "run.json").is_file() else {}
    if not isinstance(run, dict):
        raise ValueError(f"{checkpoint / 'run.json'}: expected a JSON object, found {type(run).__name__}.")
    recipe = read_yaml(checkpoint / RECIPE_FILE) if (checkpoint / RECIPE_FILE).is_file() else {}
    return without_private(recipe), without_private(run)


def describe_training(recipe: dict[str, Any], run: dict[str, Any]) -> dict[str, str]:
    """Data, recipe and other facts, as the template shows them."""
    facts = [f"{harmless(run[name])} {unit}" for name, unit in (("ranks", "rank(s)"), ("date", "(UTC)")) if name in run]
    if isinstance(run.get("environment"), dict):
        facts.append(", ".join(f"{name} {value}" for name, value in harmless(run["environment"]).items()))
    text = yaml.safe_dump(recipe, sort_keys=False, allow_unicode=True).strip()
    return {
        "data": fenced("json", json.dumps(run["data"], indent=1)) if "data" in run else "",
        "recipe": fenced("yaml", text) if recipe else "",
        "facts": "; ".join(facts),
    }


def base_model(texts: dict[str, Any], recipe: dict[str, Any], run: dict[str, Any]) -> str | None:
    """The Hub id of the frozen CLIP: as the author says, else what a recorded training started from.

    ORG/NAME in a recipe can be a folder too. It counts as an id only if a revision of it is recorded.
    """
    trained_from, revision = recipe.get("model"), run.get("base_revision") or recipe.get("revision")
    is_id = isinstance(trained_from, str) and HUB_ID.fullmatch(trained_from) and revision
    return texts.get("base_model", trained_from if is_id else None)


def eval_results(results: dict[str, Any]) -> list[EvalResult]:
    """The figures of a complete protocol, for the Hub."""
    protocol, row = results["protocol"], results["rows"]["vita_clip"]
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
        for name, title in FIGURES.items()
        for kind in ("mean", "harmonic_mean")
        if row.get(name, {}).get(kind) is not None
    ]


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
        ValueError: one of the files beside the weights is damaged, or measures other weights.
    """
    from vitaclip_hf.evaluation.accuracies import markdown_table

    config, named = model.config, model.class_prompts.have_names
    classes = [config.id2label[index] for index in range(min(2, config.num_labels))]
    model.freeze_backbone()
    trained, parameters = model.num_parameters(only_trainable=True), model.num_parameters()
    with content_errors("The files beside the checkpoint make no card", ValueError):
        texts, results = read_author_texts(checkpoint, license), read_measurements(checkpoint, model)
        recipe, run = training_record(checkpoint)
        measured = results is not None and not results["limited"] and "vita_clip" in results["rows"]
        card = ModelCard.from_template(
            ModelCardData(
                **{name: texts.get(name) for name in ("license", "license_name", "license_link")},
                library_name="transformers",
                pipeline_tag="video-classification",
                base_model=base_model(texts, recipe, run),
                tags=[*TAGS, *texts.get("tags", [])],
                model_name=model_id.split("/")[-1] if measured else None,
                eval_results=eval_results(results) if results is not None and measured else None,
            ),
            template_path=str(TEMPLATE),
            texts={name: text.strip() for name, text in texts.items() if name in TEXT_FIELDS},
            license_title=harmless(texts.get("license_name", texts.get("license"))),
            model_id=model_id,
            version=__version__,
            config=config,
            prompts={
                part: {name: harmless(str(getattr(getattr(config, part), name))) for name in names}
                for part, names in PROMPT_FIELDS.items()
            },
            video_processor=processor.video_processor,
            named=named,
            labels=json.dumps(texts.get("labels", classes if named else NEUTRAL_LABELS), ensure_ascii=False),
            remote_code=remote_code,
            parameters=parameters,
            trained=trained,
            sizes=[sum(tensor.nbytes for tensor in part.values()) for part in split_tensors(model)],
            results=results,
            table=None if results is None else markdown_table(results).strip(),
            **describe_training(recipe, run),
        )
    return card.content + "\n"
