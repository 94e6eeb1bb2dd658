"""Stock CLIPs of every format as initial Vita-CLIP folders: the same features, and nothing lost on the way."""

import json
import os
import shutil
from pathlib import Path

import open_clip
import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import pre_tokenizers
from transformers import (
    AutoModel,
    AutoProcessor,
    AutoTokenizer,
    BertConfig,
    CLIPConfig,
    CLIPImageProcessor,
    CLIPModel,
    CLIPTokenizer,
)

from vitaclip_hf import VitaClipConfig, VitaClipModel, VitaClipProcessor
from vitaclip_hf.conversion import convert_clip as conversion
from vitaclip_hf.loading.prompts_alone import split_tensors


MODELS = Path(__file__).parents[2] / "configuration" / "models"
VISION = {"image_size": 32, "layers": 2, "width": 48, "patch_size": 8, "head_width": 12, "mlp_ratio": 2.0}
TEXT = {"context_length": 20, "vocab_size": 514, "width": 32, "heads": 4, "layers": 3, "mlp_ratio": 2.0}
IDS = torch.tensor([[512, 320, 100, 513, 0, 0], [512, 7, 513, 0, 0, 0]])


def open_clip_model(quick_gelu: bool = True, kind=open_clip.CLIP, seed: int = 0):
    torch.manual_seed(seed)
    model = kind(embed_dim=24, vision_cfg=dict(VISION), text_cfg=dict(TEXT), quick_gelu=quick_gelu)
    torch.nn.init.normal_(model.visual.class_embedding)  # everything must matter
    for name, parameter in model.named_parameters():
        if "bias" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    return model.eval()


def stock_clip() -> CLIPModel:
    torch.manual_seed(3)
    size = {"num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
    vision = size | {"hidden_size": 48, "image_size": 32, "patch_size": 8}
    return CLIPModel(
        CLIPConfig(vision_config=vision, text_config=size | {"hidden_size": 32, "vocab_size": 514}, projection_dim=24)
    )


def save_open_clip(folder: Path, model, quick_gelu: bool = True, **changes) -> Path:
    """A folder as open_clip puts on the Hub; `changes` of its configuration by dotted name."""
    model_config = {"embed_dim": 24, "quick_gelu": quick_gelu, "vision_cfg": dict(VISION), "text_cfg": dict(TEXT)}
    config = {"model_cfg": model_config, "preprocess_cfg": {"mean": [0.5, 0.4, 0.3], "std": [0.2, 0.3, 0.4]}}
    for name, value in changes.items():
        part, field = name.split("__")
        (config[part] if part in config else model_config[part])[field] = value
    folder.mkdir(exist_ok=True)
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    save_file({name: t.contiguous() for name, t in model.state_dict().items()}, folder / "open_clip_model.safetensors")
    return folder


@pytest.fixture(scope="module")
def letters(tmp_path_factory) -> Path:
    """A tokenizer of CLIP's kind that knows letters alone: the real one takes longer to load than all else here."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokens = [*alphabet, *(f"{letter}</w>" for letter in alphabet), "<|startoftext|>", "<|endoftext|>"]
    folder = tmp_path_factory.mktemp("letters")
    vocab = {token: index for index, token in enumerate(tokens)}
    CLIPTokenizer(vocab=vocab, merges=[], model_max_length=20).save_pretrained(folder)
    return folder


@pytest.fixture
def options(tmp_path, letters):
    def make(source, **changes) -> dict:
        return {"source": source, "output": tmp_path / "out", "tokenizer": str(letters)} | changes

    return make


HEADS = {"vision_heads": 4, "text_heads": 4}


@torch.no_grad()
def check_features(folder: Path, original) -> VitaClipModel:
    """Images and texts through the folder as through open_clip's own code."""
    model = AutoModel.from_pretrained(folder).eval()
    images = torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    with model.prompts_disabled():
        ours = model.get_video_features(images[:, None]).pooler_output
    torch.testing.assert_close(ours, original.encode_image(images), atol=1e-5, rtol=0)
    padded = torch.nn.functional.pad(IDS, (0, TEXT["context_length"] - IDS.shape[1]))
    texts = original.encode_text(padded)
    torch.testing.assert_close(model.get_text_features(IDS).pooler_output, texts, atol=1e-5, rtol=0)
    assert torch.equal(model.logit_scale, original.logit_scale)
    assert original.encode_image(images).std(0).min() > 1e-3 and (texts[0] - texts[1]).abs().max() > 1e-3
    return model


@pytest.mark.parametrize("quick_gelu", [True, False])
@pytest.mark.parametrize("kind", [open_clip.CLIP, open_clip.CustomTextCLIP])
def test_open_clip_folder(tmp_path, options, quick_gelu, kind):
    original = open_clip_model(quick_gelu, kind)
    conversion.convert_clip(**options(save_open_clip(tmp_path / "clip", original, quick_gelu)))
    model = check_features(tmp_path / "out", original)
    assert model.config.vision_config.hidden_act == ("quick_gelu" if quick_gelu else "gelu")
    processor = AutoProcessor.from_pretrained(tmp_path / "out")
    assert tuple(processor.video_processor.image_mean) == (0.5, 0.4, 0.3)
    assert tuple(processor.video_processor.image_std) == (0.2, 0.3, 0.4)
    assert processor.video_processor.crop_size == {"height": 32, "width": 32}


def test_the_activations_differ(tmp_path, options):
    """So that a wrong activation would be seen above."""
    original = open_clip_model(quick_gelu=False)
    conversion.convert_clip(**options(save_open_clip(tmp_path / "clip", original, quick_gelu=True)))
    with pytest.raises(AssertionError, match="not close"):
        check_features(tmp_path / "out", original)


def openai_extras() -> dict:
    return {"input_resolution": torch.tensor(32), "context_length": torch.tensor(20), "vocab_size": torch.tensor(514)}


@pytest.mark.parametrize(
    ("wrap", "activation"),
    [
        (lambda weights: weights | openai_extras(), None),
        (lambda weights: weights, "quick_gelu"),
        (lambda w: {"epoch": 3, "name": "b32", "state_dict": {f"module.{k}": v for k, v in w.items()}}, "quick_gelu"),
        (lambda weights: weights | {"logit_scale": weights["logit_scale"][None]}, "quick_gelu"),
    ],
)
def test_state_dicts(tmp_path, options, wrap, activation):
    original = open_clip_model()
    torch.save(wrap(original.state_dict()), tmp_path / "clip.pt")
    conversion.convert_clip(**options(tmp_path / "clip.pt", activation=activation, **HEADS))
    check_features(tmp_path / "out", original)


def test_pickled_open_clip_folder(tmp_path, options):
    """The older file of the Hub's open_clip repositories; and the same file given by itself."""
    original = open_clip_model(quick_gelu=False)
    folder = save_open_clip(tmp_path / "clip", original, quick_gelu=False)
    (folder / "open_clip_model.safetensors").unlink()
    torch.save(original.state_dict(), folder / "open_clip_pytorch_model.bin")
    conversion.convert_clip(**options(folder))
    check_features(tmp_path / "out", original)
    conversion.convert_clip(**options(folder / "open_clip_pytorch_model.bin", output=tmp_path / "file"))
    check_features(tmp_path / "file", original)


def test_half_precision_becomes_float32(tmp_path, options):
    weights = {name: tensor.half() for name, tensor in open_clip_model().state_dict().items()}
    torch.save(weights | openai_extras(), tmp_path / "clip.pt")
    model = conversion.convert_clip(**options(tmp_path / "clip.pt", **HEADS))
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    assert torch.equal(model.text_projection.weight, weights["text_projection"].float().T)


def test_transformers_clip_is_bit_equal(tmp_path, options, letters):
    clip = stock_clip()
    clip.save_pretrained(tmp_path / "clip")
    tokenizer = AutoTokenizer.from_pretrained(letters)
    tokenizer.save_pretrained(tmp_path / "clip")
    CLIPImageProcessor(image_mean=[0.1, 0.2, 0.3], image_std=[1.0, 2.0, 3.0]).save_pretrained(tmp_path / "clip")
    conversion.convert_clip(**options(tmp_path / "clip", tokenizer=None))
    model = AutoModel.from_pretrained(tmp_path / "out")
    assert type(model) is VitaClipModel
    ours = model.state_dict()
    assert all(torch.equal(ours[name], tensor) for name, tensor in clip.state_dict().items())
    processor = AutoProcessor.from_pretrained(tmp_path / "out")
    assert type(processor) is VitaClipProcessor
    assert processor.tokenizer("a dog").input_ids == tokenizer("a dog").input_ids
    assert len(tokenizer("a dog").input_ids) == 6
    assert tuple(processor.video_processor.image_mean) == (0.1, 0.2, 0.3)
    assert (processor.video_processor.resample, processor.video_processor.antialias) == (3, True)


def test_preset_classes_and_seed(tmp_path, options):
    stock_clip().save_pretrained(tmp_path / "clip")
    preset = {"vision_config": {"num_frames": 3, "use_local_prompts": False}, "text_config": {"num_context_tokens": 2}}
    (tmp_path / "mine.json").write_text(json.dumps(preset | {"projection_dim": 24}))
    (tmp_path / "classes.txt").write_text("archery\nriding_a_bike\n\n")
    chosen = {"preset": str(tmp_path / "mine.json"), "classes": tmp_path / "classes.txt"}
    conversion.convert_clip(**options(tmp_path / "clip", **chosen))
    model = AutoModel.from_pretrained(tmp_path / "out")
    assert model.config.id2label == {0: "archery", 1: "riding_a_bike"} and model.class_prompts.have_names
    assert (model.config.num_frames, model.config.vision_config.use_local_prompts) == (3, False)
    assert model.class_prompts.context.shape == (2, 2, 32)
    assert AutoProcessor.from_pretrained(tmp_path / "out").video_processor.num_frames == 3
    again = conversion.convert_clip(**options(tmp_path / "clip", **chosen, output=tmp_path / "again"))
    other = conversion.convert_clip(**options(tmp_path / "clip", **chosen, output=tmp_path / "other", seed=1))
    same = [torch.equal(again.state_dict()[name], tensor) for name, tensor in model.state_dict().items()]
    assert all(same) and not torch.equal(other.class_prompts.context, again.class_prompts.context)
    original = open_clip_model()
    folder = save_open_clip(tmp_path / "open", original)
    from_open_clip = conversion.convert_clip(**options(folder, **chosen, output=tmp_path / "from_open_clip"))
    assert from_open_clip.class_prompts.context.shape == (2, 2, 32) and from_open_clip.config.num_frames == 3


@pytest.mark.parametrize(
    ("preset", "message"),
    [
        ("vita-clip-b16", "hidden_size is 48, not 768"),
        ("vita-clip-b99", "known presets: vita-clip-b16, .*vita-clip-l14-336"),
        ({"projection_dim": 99}, "projection_dim is 24, not 99"),
        ("{", "not JSON"),
    ],
)
def test_presets_that_do_not_fit(tmp_path, options, preset, message):
    stock_clip().save_pretrained(tmp_path / "clip")
    if not str(preset).startswith("vita"):
        (tmp_path / "mine.json").write_text(preset if isinstance(preset, str) else json.dumps(preset))
        preset = str(tmp_path / "mine.json")
    with pytest.raises(conversion.ConversionError, match=message):
        conversion.convert_clip(**options(tmp_path / "clip", preset=preset))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("preset", "name", "parameters"),
    [
        ("vita-clip-b32", "ViT-B-32-quickgelu", 151_277_313),
        ("vita-clip-b16", "ViT-B-16-quickgelu", 149_620_737),
        ("vita-clip-b16-released", "ViT-B-16-quickgelu", 149_620_737),
        ("vita-clip-l14", "ViT-L-14-quickgelu", 427_616_513),
        ("vita-clip-l14-336", "ViT-L-14-336-quickgelu", 427_944_193),
    ],
)
def test_presets_are_the_published_clips(preset, name, parameters):
    config = VitaClipConfig(**json.loads((MODELS / f"{preset}.json").read_text()))
    theirs = open_clip.get_model_config(name)
    with torch.device("meta"):
        model = VitaClipModel(config)
        reference = open_clip.CLIP(**theirs)
    prompts, backbone = split_tensors(model)
    backbone["logit_scale"] = prompts["logit_scale"]
    assert sum(tensor.numel() for tensor in backbone.values()) == parameters
    assert sum(parameter.numel() for parameter in reference.parameters()) == parameters
    vision, text = config.vision_config, config.text_config
    assert (vision.image_size, vision.patch_size) == (
        theirs["vision_cfg"]["image_size"],
        reference.visual.patch_size[0],
    )
    assert vision.num_attention_heads == reference.visual.transformer.resblocks[0].attn.num_heads
    assert text.num_attention_heads == reference.transformer.resblocks[0].attn.num_heads
    assert (vision.hidden_act, text.hidden_act) == ("quick_gelu", "quick_gelu")
    # Every tensor of theirs has a place, in its shape.
    heads = {"vision_heads": None, "text_heads": None}
    weights = {key: torch.empty_like(tensor) for key, tensor in reference.state_dict().items()}
    weights["logit_scale"] = torch.tensor(1.0)
    said = heads | {"activation": "quick_gelu"}
    found = conversion.read_config(weights, "", said, conversion.prompt_settings({}))
    if not preset.endswith("released"):  # which differs in its prompts
        conversion.check_preset(json.loads((MODELS / f"{preset}.json").read_text()), found)
    for part in ("vision_config", "text_config"):
        for field in ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "hidden_act"):
            assert getattr(getattr(found, part), field) == getattr(getattr(config, part), field), (part, field)
    renaming = conversion.rename(weights, found)
    assert not renaming.left
    assert {k: t.shape for k, t in renaming.converted.items()} == {k: t.shape for k, t in backbone.items()}


def test_a_file_must_say_its_activation(tmp_path, options):
    torch.save(open_clip_model().state_dict(), tmp_path / "clip.pt")
    with pytest.raises(conversion.ConversionError, match="pass `activation` quick_gelu .*MetaCLIP.* or gelu"):
        conversion.convert_clip(**options(tmp_path / "clip.pt", **HEADS))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda w: w.update(extra=torch.zeros(1)), "have no place in the model: extra"),
        (lambda w: w.update(logit_bias=torch.zeros(1)), "have no place in the model: logit_bias"),
        (lambda w: w.pop("visual.ln_pre.weight"), "does not fill.*vision_model.pre_layrnorm.weight"),
        (lambda w: w.pop("visual.proj"), "lacks visual.proj; it is no CLIP with a vision transformer"),
        (lambda w: w.pop("transformer.resblocks.1.attn.in_proj_bias"), "layers.1.self_attn.k_proj.bias"),
        (lambda w: w.update({"visual.ln_post.weight": torch.zeros(3)}), "another shape: .*post_layernorm.weight"),
        (lambda w: w.update({"visual.positional_embedding": torch.zeros(16, 48)}), "15 patch positions are no square"),
        (lambda w: [w.pop(k) for k in list(w) if k.startswith("transformer.resblocks.1.")], "no complete sequence"),
        (lambda w: w.update(note="hello"), "expected {name: tensor}"),
        (lambda w: w.clear(), "expected {name: tensor}"),
    ],
)
def test_every_key_is_accounted_for(tmp_path, options, change, message):
    weights = dict(open_clip_model().state_dict())
    change(weights)
    torch.save(weights, tmp_path / "clip.pt")
    with pytest.raises(conversion.ConversionError, match=message):
        conversion.convert_clip(**options(tmp_path / "clip.pt", activation="gelu", **HEADS))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"vision_cfg__timm_model_name": "vit"}, "vision_cfg.timm_model_name='vit'"),
        ({"vision_cfg__pool_type": "avg"}, "vision_cfg.pool_type='avg'"),
        ({"text_cfg__no_causal_mask": True}, "text_cfg.no_causal_mask=True"),
        ({"text_cfg__hf_tokenizer_name": "other"}, "text_cfg.hf_tokenizer_name='other'"),
        ({"preprocess_cfg__resize_mode": "squash"}, "resize_mode='squash'"),
        ({"preprocess_cfg__interpolation": "random"}, "interpolation='random'"),
        ({"model_cfg__multimodal_cfg": {}}, "multimodal_cfg={}"),
        ({"model_cfg__vision_cfg": None}, "not open_clip's configuration"),
    ],
)
def test_open_clip_models_that_are_no_clip(tmp_path, options, changes, message):
    folder = save_open_clip(tmp_path / "clip", open_clip_model(), **changes)
    with pytest.raises(conversion.ConversionError, match=f"open_clip_config.json: .*{message}"):
        conversion.convert_clip(**options(folder))


def test_open_clip_details(tmp_path, options):
    """Settings that are written out although they are CLIP's own; bilinear resizing."""
    changes = {
        "vision_cfg__pool_type": "tok",
        "text_cfg__pool_type": "argmax",
        "preprocess_cfg__interpolation": "bilinear",
    }
    conversion.convert_clip(**options(save_open_clip(tmp_path / "clip", open_clip_model(), **changes)))
    assert AutoProcessor.from_pretrained(tmp_path / "out").video_processor.resample == 2


def test_damaged_transformers_folders(tmp_path, options):
    stock_clip().save_pretrained(tmp_path / "clip")
    path = tmp_path / "clip" / "model.safetensors"
    whole, weights = path.read_bytes(), load_file(path)

    def fails(message: str, error=ValueError):
        with pytest.raises(error, match=message):
            conversion.convert_clip(**options(tmp_path / "clip"))
        assert not (tmp_path / "out").exists()

    path.write_bytes(whole[:-10])
    fails("clip: a weights file is damaged or incomplete", (OSError, ValueError))
    missing = {name: tensor for name, tensor in weights.items() if name != "visual_projection.weight"}
    save_file(missing, path, metadata={"format": "pt"})
    fails("clip: .* visual_projection.weight is missing")
    save_file(weights | {"visual_projection.bias": torch.zeros(2)}, path, metadata={"format": "pt"})
    fails("have no place in the model: visual_projection.bias")
    save_file(weights | {"visual_projection.weight": torch.zeros(5, 48)}, path, metadata={"format": "pt"})
    fails(r"visual_projection.weight has the shape \[5, 48\], the configuration asks for \[24, 48\]")
    path.unlink()
    fails("clip", OSError)
    BertConfig().save_pretrained(tmp_path / "clip")
    fails("a model of type 'bert', not a CLIP")
    (tmp_path / "clip" / "config.json").unlink()
    fails("neither config.json nor open_clip_config.json")


def test_damaged_files(tmp_path, options):
    folder = save_open_clip(tmp_path / "clip", open_clip_model())
    path = folder / "open_clip_model.safetensors"
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(conversion.ConversionError, match="open_clip_model.safetensors: damaged"):
        conversion.convert_clip(**options(folder))
    path.unlink()
    with pytest.raises(conversion.ConversionError, match="none of open_clip_model.safetensors, .*bin is there"):
        conversion.convert_clip(**options(folder))
    for content in (b"", b"garbage" * 100, whole):
        (tmp_path / "clip.pt").write_bytes(content)
        with pytest.raises(conversion.ConversionError, match="clip.pt: not a checkpoint of plain tensors"):
            conversion.convert_clip(**options(tmp_path / "clip.pt"))
    with pytest.raises(conversion.ConversionError, match="none.pt: no such file"):
        conversion.convert_clip(**options(tmp_path / "none.pt"))
    (tmp_path / "out").write_text("mine")
    with pytest.raises(conversion.ConversionError, match="a file is there"):
        conversion.convert_clip(**options(tmp_path / "clip.pt"))


class Malicious:
    """Leaves a file behind if it is ever unpickled with code allowed."""

    def __init__(self, trace: Path):
        self.trace = trace

    def __reduce__(self):
        return (os.mkdir, (str(self.trace),))


@pytest.mark.parametrize(
    "place", ["clip.pt", "clip.pth", "odd.safetensors", "open_clip_pytorch_model.bin", "pytorch_model.bin"]
)
def test_malicious_pickles_are_refused_and_not_executed(tmp_path, options, place):
    trace = tmp_path / "executed"
    source = folder = tmp_path / "clip"
    if place == "pytorch_model.bin":
        stock_clip().save_pretrained(folder)
        (folder / "model.safetensors").unlink()
    else:
        save_open_clip(folder, open_clip_model())
        (folder / "open_clip_model.safetensors").unlink()
        source = folder if place == "open_clip_pytorch_model.bin" else folder / place
    torch.save({"logit_scale": torch.zeros(()), "x": Malicious(trace)}, folder / place)
    with pytest.raises(conversion.ConversionError, match="nothing else is loaded|not safetensors"):
        conversion.convert_clip(**options(source))
    assert not trace.exists() and not (tmp_path / "out").exists()
    with (folder / place).open("rb") as file:
        torch.load(file, weights_only=False)
    assert trace.exists()  # it would have been executed


def test_pickled_tensors_of_a_transformers_folder(tmp_path, options):
    clip = stock_clip()
    clip.save_pretrained(tmp_path / "clip")
    (tmp_path / "clip" / "model.safetensors").unlink()
    # As OpenAI's own: with positions that are no weights.
    extra = {"text_model.embeddings.position_ids": torch.arange(77)[None]}
    torch.save(clip.state_dict() | extra, tmp_path / "clip" / "pytorch_model.bin")
    ours = conversion.convert_clip(**options(tmp_path / "clip")).state_dict()
    assert all(torch.equal(ours[name], tensor) for name, tensor in clip.state_dict().items())


def test_torchscript_is_refused_and_not_executed(tmp_path, options):
    """OpenAI's own files."""

    class Scripted(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x

    torch.jit.script(Scripted()).save(str(tmp_path / "ViT-B-16.pt"))
    with pytest.raises(conversion.ConversionError, match="TorchScript.*openai/clip-vit-base-patch16.*state_dict"):
        conversion.convert_clip(**options(tmp_path / "ViT-B-16.pt"))


def test_command_line(tmp_path, letters, run_script):
    original = open_clip_model(quick_gelu=False)
    torch.save(original.state_dict(), tmp_path / "laion.bin")
    (tmp_path / "classes.txt").write_text("archery\ntai chi\nyoga\n")
    (tmp_path / "prompts.json").write_text(json.dumps({"text_config": {"num_context_tokens": 4}}))
    arguments = (
        *("-m", "vitaclip_hf.cli", "convert", "clip", tmp_path / "laion.bin", "--output", tmp_path / "out"),
        *("--tokenizer", letters, "--activation", "gelu", "--vision-heads", "4", "--text-heads", "4"),
        *("--classes", tmp_path / "classes.txt", "--preset", tmp_path / "prompts.json"),
    )
    result = run_script(*arguments)
    assert result.returncode == 0, result.stderr
    model = check_features(tmp_path / "out", original)
    assert result.stdout == f"{tmp_path}/out: {model.num_parameters():,} parameters, 3 classes\n"
    torch.save({"x": Malicious(tmp_path / "executed")}, tmp_path / "laion.bin")
    shutil.rmtree(tmp_path / "out")
    result = run_script(*arguments)
    assert result.returncode == 2 and not (tmp_path / "executed").exists()
    error = f"vitaclip convert clip: SOURCE {tmp_path}/laion.bin: not a checkpoint of plain tensors"
    assert result.stderr.startswith(error)
    assert len(result.stderr.splitlines()) == 1


def test_class_lists_and_seeds_that_cannot_be_read(tmp_path, options):
    folder = save_open_clip(tmp_path / "clip", open_clip_model())
    (tmp_path / "latin.txt").write_bytes("archery\nvélo\n".encode("latin-1"))
    with pytest.raises(conversion.ConversionError, match=f"^`classes` {tmp_path}/latin.txt: not UTF-8"):
        conversion.convert_clip(**options(folder, classes=tmp_path / "latin.txt"))
    for seed in (2**64, -1, 10**30):
        with pytest.raises(conversion.ConversionError, match=f"^`seed` {seed}: must be from 0 to"):
            conversion.convert_clip(**options(folder, seed=seed))
    conversion.convert_clip(**options(folder, seed=2**64 - 1))


def test_a_name_that_is_no_folder_and_no_id(options):
    with pytest.raises(ValueError, match="^`source` some/folder/clip: no such folder, and not an id on the Hub"):
        conversion.convert_clip(**options("some/folder/clip"))


def test_names_too_long_for_the_text_tower(tmp_path, options):
    (tmp_path / "classes.txt").write_text("archery\ntai chi\n")
    folder = save_open_clip(tmp_path / "clip", open_clip_model())
    with pytest.raises(ValueError, match="class 'archery' takes 26 tokens"):  # 20 positions, 16 of context
        conversion.convert_clip(**options(folder, classes=tmp_path / "classes.txt"))


def test_a_folder_without_a_tokenizer(tmp_path, options):
    stock_clip().save_pretrained(tmp_path / "clip")
    with pytest.raises(ValueError, match="the tokenizer has .* tokens, the CLIP 514; .*`tokenizer`"):
        conversion.convert_clip(**options(tmp_path / "clip", tokenizer=None))
    assert not (tmp_path / "out").exists()


def test_nothing_is_overwritten(tmp_path, options):
    folder = save_open_clip(tmp_path / "clip", open_clip_model())
    before = sorted(folder.iterdir())
    with pytest.raises(conversion.ConversionError, match="already there and not empty"):
        conversion.convert_clip(**options(folder, output=folder))
    assert sorted(folder.iterdir()) == before


@pytest.mark.parametrize("content", ["[]", '{"text_config": 5}', '{"nothing": 1}', '{"text_config": {"nothing": 1}}'])
def test_malformed_presets(tmp_path, options, content):
    (tmp_path / "preset.json").write_text(content)
    folder = save_open_clip(tmp_path / "clip", open_clip_model())
    with pytest.raises(conversion.ConversionError, match="`preset`"):
        conversion.convert_clip(**options(folder, preset=str(tmp_path / "preset.json")))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), None])
def test_weights_that_are_no_numbers(tmp_path, options, value):
    folder, name = save_open_clip(tmp_path / "clip", open_clip_model()), "text_projection"
    weights = load_file(folder / "open_clip_model.safetensors")
    weights[name] = weights[name].long() if value is None else weights[name].fill_(value)
    save_file(weights, folder / "open_clip_model.safetensors")
    with pytest.raises(conversion.ConversionError, match=f"no finite floating-point numbers: {name}"):
        conversion.convert_clip(**options(folder))
