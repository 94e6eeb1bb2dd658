"""Prompts saved alone, and put back on their base."""

import copy
import hashlib
import json
import re
import shutil
from functools import partial
from pathlib import Path

import pytest
import torch
from attack.hostile_folders import tensors
from safetensors.torch import load_file
from tiny_models import on_clip, set_classes, tiny_clip, tiny_model, tiny_processor
from transformers import AutoModel, BertConfig, CLIPModel, pipeline

import vitaclip_hf
from vitaclip_hf import VitaClipForVideoClassification, VitaClipModel
from vitaclip_hf.loading.checkpoint import CheckpointError
from vitaclip_hf.loading.prompts_alone import find_prompts_alone, fingerprint_of_tensors, load_prompts, save_prompts
from vitaclip_hf.training.arguments import ModelArguments
from vitaclip_hf.training.starting_point import load_starting_point


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clip")
    tiny_clip().save_pretrained(folder)
    return folder


def videos(batch: int = 2, frames: int = 5) -> torch.Tensor:
    return torch.randn(batch, frames, 3, 32, 32, generator=torch.Generator().manual_seed(1))


def scrambled(model):
    """A model whose prompts all do something, as after a training; the backbone stays."""
    generator = torch.Generator().manual_seed(7)
    clip = set(tiny_clip().state_dict()) - {"logit_scale"}
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name not in clip:
                parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.1)
    return model


def same_tensors(one, other) -> bool:
    one, other = one.state_dict(), other.state_dict()
    return one.keys() == other.keys() and all(
        one[name].dtype == other[name].dtype and torch.equal(one[name], other[name]) for name in one
    )


@pytest.fixture(scope="module")
def trained(base, tokenizer):
    """A model on the base, with names and prompts as after a training."""
    model = on_clip(base, settings={"vision_config": {"num_frames": 4}, "text_config": {"num_context_tokens": 3}})
    set_classes(model, ["archery", "riding a bike", "tai chi"], tokenizer)
    return scrambled(model.eval())


@pytest.fixture(scope="module")
def saved(trained, tokenizer, tmp_path_factory):
    folder = tmp_path_factory.mktemp("prompts")
    save_prompts(trained, folder, processor=tiny_processor(tokenizer))
    return folder


@pytest.fixture
def copied(saved, tmp_path):
    return shutil.copytree(saved, tmp_path / "prompts")


def record_of(folder) -> dict:
    return json.loads((folder / "prompt_config.json").read_text())


def without_base(folder) -> dict:
    return {name: value for name, value in record_of(folder).items() if name != "base_model"}


def rewrite_record(folder, **changes) -> None:
    (folder / "prompt_config.json").write_text(json.dumps(record_of(folder) | changes))


def cannot_load(message: str, *arguments, **options) -> None:
    with pytest.raises((CheckpointError, ValueError), match=message) as caught:
        load_prompts(*arguments, **options)
    assert "\n" not in str(caught.value)


def test_reloaded_model_is_bit_equal(trained, saved, base):
    classes = VitaClipModel, VitaClipForVideoClassification
    model, classifier = (load_prompts(saved, model_class=cls) for cls in classes)
    assert (type(model), type(classifier)) == classes
    assert same_tensors(model, trained) and same_tensors(classifier, trained)
    assert not model.training
    assert model.config.id2label == {0: "archery", 1: "riding a bike", 2: "tai chi"}
    assert model.config.name_or_path == str(base)
    with torch.no_grad():
        assert torch.equal(model(videos()).logits_per_video, trained(videos()).logits_per_video)
        assert torch.equal(classifier(videos()).logits, trained(videos()).logits_per_video)


def test_saved_again_in_shards_and_as_one_file(trained, tokenizer, tmp_path):
    """transformers leaves the file of the first save beside the shards, and loads it in their place."""
    other = scrambled(copy.deepcopy(trained))
    for model, options in ((trained, {}), (other, {"max_shard_size": "1MB"}), (trained, {})):
        vitaclip_hf.save_checkpoint(model, tiny_processor(tokenizer), tmp_path, **options)
        assert same_tensors(vitaclip_hf.load_checkpoint(tmp_path).model, model)
        assert (tmp_path / "model.safetensors.index.json").exists() == bool(options)


def test_a_subfolder_of_a_folder(trained, saved, tokenizer, tmp_path):
    vitaclip_hf.save_checkpoint(trained, tiny_processor(tokenizer), tmp_path / "whole")
    for folder, kind in ((saved, "prompts"), (tmp_path / "whole", "vita-clip")):
        found = vitaclip_hf.load_checkpoint(folder.parent, subfolder=folder.name)
        assert found.kind == kind and same_tensors(found.model, trained)
    with pytest.raises(CheckpointError, match="/none: no such folder"):
        vitaclip_hf.load_checkpoint(tmp_path, subfolder="none")


def test_the_files(trained, saved, base):
    """What the prompts' file holds is what CLIP has not, and the logit scale; the record names the base."""
    prompts, clip = load_file(saved / "prompts.safetensors"), load_file(base / "model.safetensors")
    assert prompts.keys() & clip.keys() == {"logit_scale"}
    assert prompts.keys() | clip.keys() == trained.state_dict().keys()
    digest = hashlib.sha256()
    for name in sorted(clip.keys() - {"logit_scale"}):
        digest.update(f"{name} torch.float32 {list(clip[name].shape)}\n".encode() + clip[name].numpy().tobytes())
    record = record_of(saved)
    assert record["base_fingerprint"] == digest.hexdigest()
    assert (record["base_model"], record["base_revision"]) == (f"../{base.name}", None)
    assert (record["base_dtype"], record["format_version"]) == ("float32", 1)
    assert record["package_version"] == vitaclip_hf.__version__


def test_a_base_in_a_folder_of_the_hubs_cache_is_found_from_everywhere(base, tokenizer, tmp_path, monkeypatch):
    snapshot = Path(shutil.copytree(base, tmp_path / "models--a--b" / "snapshots" / ("a" * 40)))
    save_prompts(on_clip(snapshot), tmp_path / "prompts", processor=tiny_processor(tokenizer))
    monkeypatch.chdir("/")
    assert load_prompts(tmp_path / "prompts").config.name_or_path == str(snapshot)


def test_dtype_is_as_from_the_whole_folder(trained, saved, tmp_path):
    trained.save_pretrained(tmp_path)
    whole = VitaClipModel.from_pretrained(tmp_path, dtype=torch.bfloat16)
    with pytest.raises(ValueError, match="`dtype` must be"):
        load_prompts(saved, dtype="fp16")
    assert load_prompts(saved, dtype="auto").logit_scale.dtype == torch.float32
    model = load_prompts(saved, dtype="bfloat16")
    assert model.logit_scale.dtype == torch.bfloat16 and same_tensors(model, whole)


def test_half_precision_backbones(base, tmp_path):
    """The type of the training is kept, also where the base's file and the prompts have another."""
    model = scrambled(on_clip(base, dtype=torch.bfloat16))
    model.vision_model.time_embedding.float()
    save_prompts(model, tmp_path / "bfloat16")
    assert same_tensors(load_prompts(tmp_path / "bfloat16"), model)
    CLIPModel.from_pretrained(base).half().save_pretrained(tmp_path / "half_base")
    model = scrambled(on_clip(tmp_path / "half_base", dtype=torch.float32))
    save_prompts(model, tmp_path / "float32")
    loaded = load_prompts(tmp_path / "float32")
    assert loaded.logit_scale.dtype == torch.float32 and same_tensors(loaded, model)


def test_other_folders_with_the_same_base(trained, saved, base, tmp_path):
    """Shards, a whole Vita-CLIP with other prompts, another place on the disk: the weights decide."""
    CLIPModel.from_pretrained(base).save_pretrained(tmp_path / "shards", max_shard_size="50KB")
    assert len(list((tmp_path / "shards").glob("*.safetensors"))) > 1
    on_clip(base, settings={"vision_config": {"num_global_prompts": 1}}).save_pretrained(tmp_path / "vita")
    for folder in ("shards", "vita"):
        model = load_prompts(saved, base=tmp_path / folder)
        assert same_tensors(model, trained), folder
    trained.save_pretrained(tmp_path / "whole")
    save_prompts(VitaClipForVideoClassification.from_pretrained(tmp_path / "whole"), tmp_path / "again", base=base)
    assert without_base(tmp_path / "again") == without_base(saved)
    whole = load_prompts(saved)
    whole.save_pretrained(tmp_path / "whole_again")
    assert same_tensors(VitaClipModel.from_pretrained(tmp_path / "whole_again"), trained)
    save_prompts(whole, tmp_path / "prompts_again")
    assert without_base(tmp_path / "prompts_again") == without_base(saved)


def test_arguments_of_from_pretrained(saved):
    names = {0: "bow", 1: "bike", 2: "slow"}
    model = load_prompts(saved, attn_implementation="eager", id2label=names, device_map={"": "cpu"})
    assert model.config._attn_implementation == model.vision_model.config._attn_implementation == "eager"
    assert model.config.id2label[2] == "slow"
    assert vitaclip_hf.load_checkpoint(saved, torch_dtype="float16").model.dtype == torch.float16
    with torch.no_grad():
        assert model.vision_model(videos(), output_attentions=True).attentions[0] is not None


def hub_cache(cache, repository: str, folder) -> str:
    """Puts a folder into a cache of the Hub's client as if it had been downloaded; returns its commit."""
    commit = hashlib.sha1(repository.encode()).hexdigest()
    entry = cache / f"models--{repository.replace('/', '--')}"
    shutil.copytree(folder, entry / "snapshots" / commit)
    (entry / "refs").mkdir()
    (entry / "refs" / "main").write_text(commit)
    return commit


def test_prompts_and_base_from_the_hub(trained, base, tokenizer, tmp_path):
    base_commit = hub_cache(tmp_path, "test-org/clip", base)
    hub = {"cache_dir": tmp_path, "local_files_only": True}
    sizes = {"vision_config": {"num_frames": 4}, "text_config": {"num_context_tokens": 3}}
    model = on_clip("test-org/clip", settings={"id2label": trained.config.id2label, **sizes}, **hub)
    model.load_state_dict(trained.state_dict())
    save_prompts(model, tmp_path / "local", processor=tiny_processor(tokenizer), **hub)
    record = record_of(tmp_path / "local")
    assert (record["base_model"], record["base_revision"]) == ("test-org/clip", base_commit)
    commit = hub_cache(tmp_path, "test-org/prompts", tmp_path / "local")
    loaded = load_prompts("test-org/prompts", revision=commit, **hub)
    assert same_tensors(loaded, trained)
    assert (loaded.config.name_or_path, loaded.config._commit_hash) == ("test-org/clip", base_commit)
    for name, revision in (("test-org/prompts", commit), (tmp_path / "local", None)):  # their own, by which they load
        assert vitaclip_hf.load_checkpoint(name, revision, **hub).revision == revision
    cannot_load("test-org/nothing", "test-org/nothing", **hub)
    rewrite_record(tmp_path / "local", base_revision="0" * 40)
    cannot_load("base model test-org/clip cannot be loaded.*pass `base`", tmp_path / "local", **hub)
    assert same_tensors(load_prompts(tmp_path / "local", base, **hub), trained)


def test_wrong_base(saved, base, tmp_path):
    tiny_clip(seed=4).save_pretrained(tmp_path / "other")
    cannot_load(f"Wrong base model: .*{base}.*{tmp_path}/other", saved, base=tmp_path / "other")
    tiny_clip(vision={"patch_size": 16}).save_pretrained(tmp_path / "patches")
    cannot_load("patches.*patch_embedding", saved, base=tmp_path / "patches")
    one_bit = shutil.copytree(base, tmp_path / "one_bit")
    tensors(lambda weights: weights["text_model.final_layer_norm.bias"][:1].add_(1e-7))(one_bit)
    cannot_load("Wrong base model", saved, base=tmp_path / "one_bit")


def test_a_base_that_is_not_loaded_as_it_is_stored(saved, tmp_path):
    spread = {"device_map": {"": "cpu", "class_prompts": "disk"}, "offload_folder": tmp_path}
    cannot_load("put on the whole CLIP as it is stored", saved, **spread)


def test_bases_that_cannot_be_loaded(saved, base, tmp_path):
    tensors(lambda weights: weights.pop("visual_projection.weight"))(shutil.copytree(base, tmp_path / "lacking"))
    shutil.copytree(base, tmp_path / "truncated")
    (tmp_path / "truncated" / "model.safetensors").write_bytes((base / "model.safetensors").read_bytes()[:-100])
    BertConfig(num_hidden_layers=1).save_pretrained(tmp_path / "bert")
    for folder, message in (
        ("none", "cannot be loaded.*pass `base`.*prompt_config.json"),
        ("truncated", "truncated cannot be loaded.*incomplete"),
        ("bert", "bert"),
        ("lacking", "visual_projection.weight is missing"),
    ):
        cannot_load(message, saved, base=tmp_path / folder, local_files_only=True)


def test_what_cannot_be_saved(trained, base, tmp_path, tokenizer):
    with pytest.raises(ValueError, match="Pass `base`"):
        save_prompts(tiny_model(tokenizer=tokenizer), tmp_path / "out")
    mixed = copy.deepcopy(trained)
    mixed.text_model.half()
    with pytest.raises(ValueError, match="several types .float16, float32"):
        save_prompts(mixed, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.pop("class_prompts.context"), "class_prompts.context is missing"),
        (lambda t: t.update(extra=torch.zeros(1)), "extra has no place"),
        (lambda t: t.update({"vision_model.time_embedding.weight": torch.zeros(6, 48)}), "time_embedding.weight"),
        (lambda t: t.clear(), "and [0-9]+ more"),
    ],
)
def test_tensors_that_do_not_fit(copied, base, change, message):
    tensors(change, "prompts.safetensors")(copied)
    cannot_load("prompts.safetensors.*prompt_config.json", copied, base)
    rewrite_record(copied, prompts_fingerprint=fingerprint_of_tensors(load_file(copied / "prompts.safetensors")))
    cannot_load(f"prompts.safetensors.*{message}", copied, base)


@pytest.mark.parametrize(
    ("file", "content"),
    [
        *(("prompts.safetensors", (10**6).to_bytes(8, "little")), ("prompts.safetensors", b""), ("config.json", b"{")),
        ("config.json", b'{"model_type": "vita_clip", "vision_config": {"num_frames": "8"}}'),
    ],
)
def test_damaged_files_of_prompts(copied, file, content):
    (copied / file).write_bytes(content)
    cannot_load(str(copied), copied)


def test_damaged_record(copied, base):
    rewrite_record(copied, format_version=2, package_version="9.0")
    cannot_load("format 2, written by vitaclip_hf 9.0.*Update the package", copied)
    good = record_of(copied) | {"format_version": 1}
    wrong = [{"base_dtype": "nn"}, {"base_dtype": "int64"}, {"base_fingerprint": 5}, {"base_fingerprint": "x"}]
    wrong = [
        {"format_version": 1},
        {"format_version": "1"},
        *(good | change for change in (*wrong, {"base_model": ""})),
    ]
    for content in ("", "{", "[]", "{}", *map(json.dumps, wrong)):
        (copied / "prompt_config.json").write_text(content)
        cannot_load("prompt_config.json: damaged", copied)
    (copied / "prompt_config.json").unlink()
    for folder in (copied, base):
        cannot_load("prompt_config.json", folder)


@pytest.mark.parametrize("load", [AutoModel.from_pretrained, partial(pipeline, "zero-shot-video-classification")])
def test_prompts_are_no_whole_model(saved, load):
    with pytest.raises((OSError, ValueError), match="model.safetensors"):
        load(str(saved))


def test_prompts_and_base_move_together(trained, base, tmp_path, monkeypatch):
    shutil.copytree(base, tmp_path / "here" / "clip")
    monkeypatch.chdir(tmp_path / "here")
    save_prompts(trained, "prompts", base="clip")
    assert record_of(tmp_path / "here" / "prompts")["base_model"] == "../clip"
    (tmp_path / "here").rename(tmp_path / "there")
    monkeypatch.chdir(tmp_path)
    assert same_tensors(load_prompts("there/prompts"), trained)
    rewrite_record(tmp_path / "there" / "prompts", base_model="there/clip")  # older records: seen from here
    assert same_tensors(load_prompts("there/prompts"), trained)
    rewrite_record(tmp_path / "there" / "prompts", base_model="../gone")
    cannot_load("gone cannot be loaded.*pass `base`", "there/prompts")


def test_folders_that_are_not_overwritten(trained, base, tmp_path):
    BertConfig().save_pretrained(tmp_path / "bert")
    copy = shutil.copytree(base, tmp_path / "clip")
    (copy / "model.safetensors").rename(copy / "pytorch_model.bin")
    trained.save_pretrained(tmp_path / "whole")
    for folder in (tmp_path / "bert", tmp_path / "whole", copy):
        before = (folder / "config.json").read_bytes()
        with pytest.raises(ValueError, match="a folder of their own|holds a whole model"):
            save_prompts(trained, folder, base=base)
        assert (folder / "config.json").read_bytes() == before and not (folder / "prompts.safetensors").exists()


def test_saved_configuration_points_to_no_code(trained, base, tmp_path):
    model = copy.deepcopy(trained)
    model.config.auto_map = {"AutoModel": "modeling.Model"}
    save_prompts(model, tmp_path / "prompts", base=base)
    assert not {"auto_map", "custom_pipelines"} & set(json.loads((tmp_path / "prompts" / "config.json").read_text()))


# Prompts alone as what a training starts from


CLASSES = ["archery", "riding a bike", "tai chi"]


def start_from(folder, **changes) -> ModelArguments:
    return ModelArguments(**({"model": str(folder), "num_frames": 4, "num_context_tokens": 3} | changes))


def test_training_goes_on_from_prompts_alone(trained, saved, base, tmp_path):
    arguments = start_from(saved, attn_implementation="eager")
    model, processor = load_starting_point(arguments, CLASSES)
    assert type(model) is VitaClipForVideoClassification and same_tensors(model, trained)
    assert model.config._attn_implementation == "eager" and processor.video_processor.num_frames == 4
    assert not model.visual_projection.weight.requires_grad and model.logit_scale.requires_grad
    # As examples/train.py saves it with --prompts_only: the base is what the training started from.
    save_prompts(model, tmp_path / "further", base=saved)
    assert without_base(tmp_path / "further") == without_base(saved)
    again = load_prompts(tmp_path / "further")
    assert same_tensors(again, trained) and again.config.name_or_path == str(base)


def test_fresh_prompts_on_the_base_of_prompts_alone(trained, saved):
    own = trained.state_dict()
    arguments = start_from(saved, fresh_prompts=True, num_context_tokens=5, attn_implementation="eager")
    fresh, _ = load_starting_point(arguments, ["left", "right"])
    assert (fresh.config.text_config.num_context_tokens, fresh.config._attn_implementation) == (5, "eager")
    same = {name for name, tensor in fresh.state_dict().items() if own[name].shape == tensor.shape}
    clip = set(tiny_clip().state_dict()) - {"logit_scale"}
    assert clip <= {name for name in same if torch.equal(fresh.state_dict()[name], own[name])}
    assert not torch.equal(fresh.vision_model.time_embedding.weight, own["vision_model.time_embedding.weight"])


def test_a_whole_model_goes_before_prompts(trained, copied):
    assert find_prompts_alone(copied, {}).base_fingerprint == record_of(copied)["base_fingerprint"]
    trained.save_pretrained(copied)
    assert find_prompts_alone(copied, {}) is None


def test_prompts_without_their_processor_do_not_start_a_training(trained, tmp_path):
    save_prompts(trained, tmp_path / "prompts")
    message = f"^{tmp_path}/prompts: no processor beside the model .*; save the processor there too.$"
    with pytest.raises(CheckpointError, match=message):
        load_starting_point(start_from(tmp_path / "prompts"), CLASSES)


def test_a_name_that_is_no_folder_and_no_id(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("runs").mkdir()
    Path("model.pth").touch()
    for name in ("examples/of/checkpoint", "./checkpoint", "a b", "runs/none", "model.pth"):
        message = f"^{re.escape(name)}: no such folder, and not an id on the Hub .those are ORG/NAME"
        with pytest.raises(CheckpointError, match=message):
            load_starting_point(start_from(name), CLASSES)
