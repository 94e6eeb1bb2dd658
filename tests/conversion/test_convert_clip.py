"""Stock CLIPs of every format as initial Vita-CLIP folders: the same features, and nothing lost on the way."""

import json
from pathlib import Path
from types import SimpleNamespace

import open_clip
import pytest
import torch
from payload import Payload
from safetensors.torch import load_file, save_file
from tiny_models import letter_tokenizer, tiny_clip
from transformers import (
    AutoModel,
    AutoProcessor,
    AutoTokenizer,
    BertConfig,
    CLIPImageProcessor,
    CLIPModel,
    CLIPProcessor,
    CLIPTokenizer,
)

from vitaclip_hf import VitaClipModel, VitaClipProcessor, load_checkpoint
from vitaclip_hf.cli.main import main
from vitaclip_hf.conversion import convert_clip as conversion
from vitaclip_hf.conversion.original_weights import rename
from vitaclip_hf.loading.prompts_alone import fingerprint_of_tensors, split_tensors


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
    return tiny_clip(text={"vocab_size": 514})


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
    folder = tmp_path_factory.mktemp("letters")
    letter_tokenizer(20).save_pretrained(folder)
    return folder


@pytest.fixture
def convert(tmp_path, letters):
    def run(source, **options) -> VitaClipModel:
        return conversion.convert_clip(source, **{"output": tmp_path / "out", "tokenizer": str(letters)} | options)

    return run


@pytest.fixture
def refuses(convert, tmp_path):
    """Checks that a source is refused with this in the message, and that nothing is written."""

    def run(source, message: str, error=ValueError, **options) -> None:
        with pytest.raises(error, match=message) as caught:
            convert(source, **options)
        assert "trust" not in str(caught.value)  # torch's advice is to run the code of the file
        assert not (tmp_path / "out").is_dir()

    return run


@pytest.fixture
def folder(tmp_path) -> Path:
    """A folder as open_clip puts on the Hub."""
    return save_open_clip(tmp_path / "clip", open_clip_model())


HEADS = {"vision_heads": 4, "text_heads": 4}


@torch.no_grad()
def check_features(folder: Path, original) -> VitaClipModel:
    """Images and texts through the folder as through open_clip's own code."""
    model = AutoModel.from_pretrained(folder).eval()
    images = torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    ours = model.get_video_features(images[:, None], use_prompts=False).pooler_output
    torch.testing.assert_close(ours, original.encode_image(images), atol=1e-5, rtol=0)
    padded = torch.nn.functional.pad(IDS, (0, TEXT["context_length"] - IDS.shape[1]))
    texts = original.encode_text(padded)
    torch.testing.assert_close(model.get_text_features(IDS).pooler_output, texts, atol=1e-5, rtol=0)
    assert torch.equal(model.logit_scale, original.logit_scale)
    assert original.encode_image(images).std(0).min() > 1e-3 and (texts[0] - texts[1]).abs().max() > 1e-3
    return model


# Settings that are written out although they are CLIP's own.
WRITTEN_OUT = {"vision_cfg__pool_type": "tok", "text_cfg__pool_type": "argmax"}


@pytest.mark.parametrize(
    ("kind", "quick_gelu", "resample", "changes"),
    [
        (open_clip.CLIP, True, 3, {}),
        (open_clip.CustomTextCLIP, False, 2, WRITTEN_OUT | {"preprocess_cfg__interpolation": "bilinear"}),
    ],
)
def test_open_clip_folder(tmp_path, convert, kind, quick_gelu, resample, changes):
    original = open_clip_model(quick_gelu, kind)
    convert(save_open_clip(tmp_path / "clip", original, quick_gelu, **changes))
    model = check_features(tmp_path / "out", original)
    assert model.config.vision_config.hidden_act == ("quick_gelu" if quick_gelu else "gelu")
    processor = AutoProcessor.from_pretrained(tmp_path / "out")
    assert tuple(processor.video_processor.image_mean) == (0.5, 0.4, 0.3)
    assert tuple(processor.video_processor.image_std) == (0.2, 0.3, 0.4)
    assert processor.video_processor.crop_size == {"height": 32, "width": 32}
    assert processor.video_processor.resample == resample


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
def test_state_dicts(tmp_path, convert, wrap, activation):
    original = open_clip_model()
    torch.save(wrap(original.state_dict()), tmp_path / "clip.pt")
    convert(tmp_path / "clip.pt", activation=activation, **HEADS)
    check_features(tmp_path / "out", original)


def test_pickled_open_clip_folder(tmp_path, convert):
    """The older file of the Hub's open_clip repositories."""
    original = open_clip_model(quick_gelu=False)
    folder = save_open_clip(tmp_path / "clip", original, quick_gelu=False)
    (folder / "open_clip_model.safetensors").unlink()
    torch.save(original.state_dict(), folder / "open_clip_pytorch_model.bin")
    convert(folder)
    check_features(tmp_path / "out", original)


def test_transformers_clip_is_bit_equal(tmp_path, convert, letters):
    clip = stock_clip()
    clip.save_pretrained(tmp_path / "clip")
    tokenizer = AutoTokenizer.from_pretrained(letters)
    tokenizer.save_pretrained(tmp_path / "clip")
    pixels = {"image_mean": [0.1, 0.2, 0.3], "image_std": [1.0, 2.0, 3.0], "size": {"height": 32, "width": 32}}
    CLIPImageProcessor(**pixels, do_center_crop=False).save_pretrained(tmp_path / "clip")
    convert(tmp_path / "clip", tokenizer=None)
    model = AutoModel.from_pretrained(tmp_path / "out")
    assert type(model) is VitaClipModel
    ours = model.state_dict()
    assert all(torch.equal(ours[name], tensor) for name, tensor in clip.state_dict().items())
    processor = AutoProcessor.from_pretrained(tmp_path / "out")
    assert type(processor) is VitaClipProcessor
    assert processor.tokenizer("a dog").input_ids == tokenizer("a dog").input_ids
    assert len(tokenizer("a dog").input_ids) == 6 and tuple(processor.video_processor.image_mean) == (0.1, 0.2, 0.3)
    assert (processor.video_processor.resample, processor.video_processor.antialias) == (3, True)
    video = torch.randint(256, (8, 20, 50, 3), dtype=torch.uint8)
    stock = load_checkpoint(tmp_path / "clip", accept_clip=True).processor
    found, expected = (part(videos=video, return_tensors="pt")["pixel_values_videos"] for part in (processor, stock))
    assert torch.equal(found, expected)


def test_prompts_classes_and_seed(tmp_path, convert):
    stock_clip().save_pretrained(tmp_path / "clip")
    (tmp_path / "classes.txt").write_text("a\nb\n\n")
    chosen = {"classes": tmp_path / "classes.txt"}
    convert(tmp_path / "clip", **chosen)
    model = AutoModel.from_pretrained(tmp_path / "out")
    assert model.config.id2label == {0: "a", 1: "b"} and model.class_prompts.have_names
    assert model.class_prompts.context.shape == (2, 16, 32)
    again = convert(tmp_path / "clip", **chosen, output=tmp_path / "again")
    other = convert(tmp_path / "clip", **chosen, output=tmp_path / "other", seed=1)
    same = [torch.equal(again.state_dict()[name], tensor) for name, tensor in model.state_dict().items()]
    assert all(same) and not torch.equal(other.class_prompts.context, again.class_prompts.context)
    from_open_clip = convert(save_open_clip(tmp_path / "open", open_clip_model()), **chosen, output=tmp_path / "new")
    assert from_open_clip.class_prompts.context.shape == (2, 16, 32)


def test_options_of_the_command(tmp_path, convert, letters):
    torch.save(open_clip_model().state_dict(), tmp_path / "clip.pt")
    (tmp_path / "classes.txt").write_text("a\nb\n")
    options = {"classes": tmp_path / "classes.txt", "activation": "gelu", "vision_heads": 6, "text_heads": 2, "seed": 3}
    command = ["convert", "clip", tmp_path / "clip.pt", "--tokenizer", letters, "--output", tmp_path / "command"]
    command += [part for name, value in options.items() for part in (f"--{name.replace('_', '-')}", value)]
    assert main([str(part) for part in command]) == 0
    model, expected = load_checkpoint(tmp_path / "command").model, convert(tmp_path / "clip.pt", **options)
    parts = model.config.vision_config, model.config.text_config
    assert [(part.num_attention_heads, part.hidden_act) for part in parts] == [(6, "gelu"), (2, "gelu")]
    assert model.config.id2label == {0: "a", 1: "b"} and fingerprint_of_tensors(model.state_dict()) == (
        fingerprint_of_tensors(expected.state_dict())
    )


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("ViT-B-32-quickgelu", 151_277_313),
        ("ViT-B-16-quickgelu", 149_620_737),
        ("ViT-L-14-quickgelu", 427_616_513),
        ("ViT-L-14-336-quickgelu", 427_944_193),
    ],
)
def test_sizes_of_the_published_clips(name, parameters):
    """Every tensor of theirs has a place, in its shape; sizes are found from the weights."""
    with torch.device("meta"):
        reference = open_clip.CLIP(**open_clip.get_model_config(name))
    assert sum(parameter.numel() for parameter in reference.parameters()) == parameters
    weights = {key: torch.empty_like(tensor) for key, tensor in reference.state_dict().items()}
    weights["logit_scale"] = torch.tensor(1.0)
    tokens = SimpleNamespace(bos_token_id=49406, eos_token_id=49407, pad_token_id=49407)
    config = conversion.state_dict_config(weights, {"activation": "quick_gelu"}, tokens)
    for part, tower in (
        (config.vision_config, reference.visual.transformer),
        (config.text_config, reference.transformer),
    ):
        assert part.num_attention_heads == tower.resblocks[0].attn.num_heads
    with torch.device("meta"):
        backbone = split_tensors(VitaClipModel(config))[1]
    renamed = rename(weights, conversion.RULES)
    assert renamed.pop("logit_scale") is not None
    assert {k: t.shape for k, t in renamed.items()} == {k: t.shape for k, t in backbone.items()}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda w: w.update(extra=torch.zeros(1)), "extra"),
        (lambda w: w.pop("visual.ln_pre.weight"), "vision_model.pre_layrnorm.weight"),
        (lambda w: w.pop("visual.proj"), "lacks visual.proj.* no CLIP"),
        (lambda w: w.pop("transformer.resblocks.1.attn.in_proj_bias"), "layers.1.self_attn.k_proj.bias"),
        (lambda w: w.update({"visual.ln_post.weight": torch.zeros(3)}), "post_layernorm.weight"),
        (lambda w: w.update({"visual.positional_embedding": torch.zeros(16, 48)}), "15 patch positions do not"),
        (lambda w: [w.pop(k) for k in list(w) if k.startswith("transformer.resblocks.1.")], "no complete sequence"),
        (lambda w: w["text_projection"].fill_(float("nan")), "finite.*text_projection"),
        (lambda w: w.update(note="hello"), "expected {name: tensor}"),
    ],
)
def test_every_key_is_accounted_for(tmp_path, refuses, change, message):
    weights = dict(open_clip_model().state_dict())
    change(weights)
    torch.save(weights, tmp_path / "clip.pt")
    refuses(tmp_path / "clip.pt", message, activation="gelu", **HEADS)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"vision_cfg__timm_model_name": "vit"}, "vision_cfg.timm_model_name='vit'"),
        ({"preprocess_cfg__resize_mode": "squash"}, "resize_mode='squash'"),
        ({"preprocess_cfg__interpolation": "random"}, "interpolation='random'"),
        ({"model_cfg__multimodal_cfg": {}}, "multimodal_cfg={}"),
        ({"model_cfg__vision_cfg": None}, "vision_cfg"),
        ({"vision_cfg__head_width": "x"}, "head_width"),
    ],
)
def test_open_clip_models_that_are_no_clip(tmp_path, refuses, changes, message):
    refuses(save_open_clip(tmp_path / "clip", open_clip_model(), **changes), f"open_clip_config.json: .*{message}")


def test_damaged_transformers_folders(tmp_path, refuses):
    source, path = tmp_path / "clip", tmp_path / "clip" / "model.safetensors"
    stock_clip().save_pretrained(source)
    whole, weights = path.read_bytes(), load_file(path)
    path.write_bytes(whole[:-10])
    refuses(source, "clip", (OSError, ValueError))
    for change, message in (
        ({"visual_projection.weight": None}, "visual_projection.weight is missing"),
        ({"visual_projection.bias": torch.zeros(2)}, "visual_projection.bias"),
        ({"visual_projection.weight": torch.zeros(5, 48)}, r"visual_projection.weight has the shape \[5, 48\]"),
        ({"text_projection.weight": torch.full((24, 32), float("nan"))}, "finite.*text_projection"),
    ):
        changed = {name: tensor for name, tensor in (weights | change).items() if tensor is not None}
        save_file(changed, path, metadata={"format": "pt"})
        refuses(source, message)
    path.unlink()
    refuses(source, "clip", OSError)
    BertConfig().save_pretrained(source)
    refuses(source, "type 'bert', not a CLIP")
    (source / "config.json").unlink()
    refuses(source, "neither config.json nor open_clip_config.json")


def test_damaged_files(tmp_path, folder, refuses):
    path = folder / "open_clip_model.safetensors"
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    refuses(folder, "open_clip_model.safetensors: damaged")
    path.unlink()
    refuses(folder, "no open_clip weights file")
    for content in (b"", b"garbage" * 100, whole):
        (tmp_path / "clip.pt").write_bytes(content)
        refuses(tmp_path / "clip.pt", "clip.pt: not a checkpoint of plain tensors")
    refuses(tmp_path / "none.pt", "none.pt: no such file")
    torch.save(open_clip_model().state_dict(), tmp_path / "clip.pt")
    refuses(tmp_path / "clip.pt", "pass `activation` quick_gelu .*MetaCLIP.* or gelu", **HEADS)


@pytest.mark.parametrize("place", ["clip.pth", "odd.safetensors", "open_clip_pytorch_model.bin", "pytorch_model.bin"])
def test_malicious_pickles_are_refused_and_not_executed(tmp_path, refuses, folder, place):
    trace = tmp_path / "executed"
    source = folder if "pytorch_model" in place else folder / place
    if place == "pytorch_model.bin":
        stock_clip().save_pretrained(folder)
        (folder / "model.safetensors").unlink()
    (folder / "open_clip_model.safetensors").unlink()
    torch.save({"logit_scale": torch.zeros(()), "x": Payload(trace)}, folder / place)
    refuses(source, "plain tensors|not safetensors")
    torch.save({"logit_scale": torch.zeros(()), "x": SimpleNamespace()}, folder / place)
    refuses(source, "plain tensors|not safetensors")
    assert not trace.exists()


def test_pickled_tensors_of_a_transformers_folder(tmp_path, convert):
    clip = stock_clip()
    clip.save_pretrained(tmp_path / "clip")
    (tmp_path / "clip" / "model.safetensors").unlink()
    # As OpenAI's own: with positions that are no weights.
    extra = {"text_model.embeddings.position_ids": torch.arange(77)[None]}
    torch.save(clip.state_dict() | extra, tmp_path / "clip" / "pytorch_model.bin")
    ours = convert(tmp_path / "clip").state_dict()
    assert all(torch.equal(ours[name], tensor) for name, tensor in clip.state_dict().items())


def test_torchscript_is_refused_and_not_executed(tmp_path, refuses):
    """OpenAI's own files."""

    class Scripted(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x

    torch.jit.script(Scripted()).save(str(tmp_path / "ViT-B-16.pt"))
    refuses(tmp_path / "ViT-B-16.pt", "hold code.*openai/clip-vit-base-patch16.*TorchScript")


def test_arguments_that_do_not_fit(tmp_path, folder, refuses, convert):
    (tmp_path / "latin.txt").write_bytes("archery\nvélo\n".encode("latin-1"))
    refuses(folder, "latin.txt", classes=tmp_path / "latin.txt")
    (tmp_path / "classes.txt").write_text("archery\ntai chi\n")
    refuses(folder, "class 'archery' takes 26 tokens", classes=tmp_path / "classes.txt")  # 20 positions, 16 of context
    for seed in (2**64, -1):
        refuses(folder, f"^`seed` {seed}", seed=seed)
    refuses("some/folder/clip", "some/folder/clip", OSError)
    stock_clip().save_pretrained(tmp_path / "bare")
    refuses(tmp_path / "bare", "the tokenizer has .* tokens, the CLIP 514; .*`tokenizer`", tokenizer=None)
    for name, value in {"activation": "gelu", "vision_heads": 2, "text_heads": 2}.items():
        refuses(tmp_path / "bare", f"`{name}` is for a state dict", **{name: value})
    before = sorted(folder.iterdir())
    refuses(folder, "`output`", output=folder)
    assert sorted(folder.iterdir()) == before
    convert(folder, seed=2**64 - 1)


# ViFi-CLIP


@pytest.fixture
def base(tmp_path, letters):
    model = stock_clip()
    model.config.text_config.update({"max_position_embeddings": 20, "num_hidden_layers": 3, "eos_token_id": 513})
    model.config.vision_config.update({"intermediate_size": 96})
    model = type(model)(model.config)
    model.save_pretrained(tmp_path / "base")
    CLIPProcessor(CLIPImageProcessor(), CLIPTokenizer.from_pretrained(letters)).save_pretrained(tmp_path / "base")
    return model


def vifi_weights(original) -> dict[str, torch.Tensor]:
    """What the released code saves: no token embedding, and the tokens of its training classes."""
    names = {"visual.": "image_encoder.", "logit_scale": "logit_scale"}
    weights = {"prompt_learner.complete_text_embeddings": torch.zeros(400, 20, 32)}
    for name, tensor in original.state_dict().items():
        start = next((start for start in names if name.startswith(start)), "")
        if name not in ("token_embedding.weight", "attn_mask"):
            weights["module." + names.get(start, "text_encoder.") + name[len(start) :]] = tensor
    return weights


def test_vifi_features_are_those_of_the_weights_and_the_base_token_embedding(tmp_path, base, capsys):
    original = open_clip_model()
    torch.save({"model": vifi_weights(original)}, tmp_path / "vifi.pth")
    command = ["convert", "vifi", str(tmp_path / "vifi.pth"), "--output", str(tmp_path / "out")]
    assert main([*command, "--base", str(tmp_path / "base")]) == 0
    loaded = load_checkpoint(tmp_path / "out")
    with torch.no_grad():
        original.token_embedding.weight.copy_(base.text_model.embeddings.token_embedding.weight)
        images = torch.randn(2, 3, 32, 32)
        expected = original.encode_image(images)
        torch.testing.assert_close(
            loaded.model.get_image_features(images).pooler_output, expected, atol=1e-5, rtol=1e-4
        )
        ids = torch.nn.functional.pad(IDS, (0, 20 - IDS.shape[1]))
        expected = original.encode_text(ids)
        torch.testing.assert_close(loaded.model.get_text_features(ids).pooler_output, expected, atol=1e-5, rtol=1e-4)
    assert loaded.encoder().embed_dim == 24
    assert main([*command, "--base", str(tmp_path / "base")]) == 2  # the folder is there


POST_NORM = "module.image_encoder.ln_post.weight"


@pytest.mark.parametrize(
    ("name", "value", "token"),
    [
        ("module.image_encoder.VPT", torch.zeros(10, 48), "VPT"),
        (POST_NORM, torch.ones(7), "post_layernorm.weight"),
        (POST_NORM, None, "post_layernorm.weight"),
    ],
)
def test_other_files_than_vifi_clips_are_refused(tmp_path, base, refused, name, value, token):
    weights = vifi_weights(open_clip_model()) | {name: value}
    torch.save({"model": {key: tensor for key, tensor in weights.items() if tensor is not None}}, tmp_path / "vifi.pth")
    error = refused("convert", "vifi", tmp_path / "vifi.pth", "--output", tmp_path / "out", "--base", tmp_path / "base")
    assert token in error and not (tmp_path / "out").exists()
