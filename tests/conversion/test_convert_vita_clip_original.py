"""The conversion of released checkpoints, and through it the model's arithmetic, against the golden cases."""

import pickle
import re

import pytest
import torch
from tiny_models import GOLDEN_CASES
from transformers import AutoModel, AutoModelForVideoClassification, AutoProcessor

from vitaclip_hf import VitaClipForVideoClassification, VitaClipModel, VitaClipProcessor
from vitaclip_hf.conversion import convert_vita_clip_original as conversion


def our_gradient(model, released_name: str) -> torch.Tensor:
    """The gradient of the parameter that the released code calls so, in its layout."""
    gradients = {name: parameter.grad for name, parameter in model.named_parameters()}
    if released_name == "visual.global_prompts":
        layers = range(model.config.vision_config.num_hidden_layers)
        names = [f"vision_model.encoder.layers.{layer}.prompts.global_prompts" for layer in layers]
        return torch.stack([gradients[name] for name in names])
    plain = {
        "logit_scale": "logit_scale",
        "prompt_learner.ctx": "class_prompts.context",
        "visual.time_embed": "vision_model.time_embedding.weight",
    }
    if released_name in plain:
        return gradients[plain[released_name]]
    name = re.sub(r"visual\.blocks\.(\d+)\.", r"vision_model.encoder.layers.\1.prompts.", released_name)
    for theirs, ours in (
        ("cls_proj", "cls_projection"),
        ("summary_attn_layer", "summary_attention"),
        ("summary_ln", "summary_norm"),
    ):
        name = name.replace(theirs, ours)
    return gradients[name][None] if name.endswith("local_prompts") else gradients[name]


@pytest.fixture(scope="module", params=GOLDEN_CASES)
def converted(request, golden_cases, tokenizer_folder, tmp_path_factory):
    case = golden_cases[request.param]
    folder = tmp_path_factory.mktemp("converted")
    conversion.convert_original(**case.options(folder, tokenizer_folder))
    return case, folder


def test_features_logits_and_loss(converted):
    case, folder = converted
    model = AutoModel.from_pretrained(folder).eval()
    assert type(model) is VitaClipModel
    pixels = case.expected["pixel_values"].transpose(1, 2)
    outputs = model(pixels, labels=case.expected["labels"])
    torch.testing.assert_close(
        outputs.vision_model_output.pooler_output, case.expected["video_features"], atol=1e-5, rtol=0
    )
    torch.testing.assert_close(
        outputs.text_model_output.pooler_output, case.expected["text_features"], atol=1e-5, rtol=0
    )
    torch.testing.assert_close(outputs.logits_per_video, case.expected["logits"], atol=1e-5, rtol=0)
    torch.testing.assert_close(outputs.logits_per_text, case.expected["logits"].T, atol=1e-5, rtol=0)
    torch.testing.assert_close(outputs.loss, case.expected["loss"][0], atol=1e-5, rtol=0)
    closed = AutoModelForVideoClassification.from_pretrained(folder).eval()
    assert type(closed) is VitaClipForVideoClassification
    with torch.no_grad():
        torch.testing.assert_close(closed(pixels).logits, case.expected["logits"], atol=1e-5, rtol=0)


def test_class_tokens_after_every_layer(converted):
    case, folder = converted
    model = AutoModel.from_pretrained(folder).eval()
    outputs = model.vision_model(case.expected["pixel_values"].transpose(1, 2), output_hidden_states=True)
    assert len(outputs.hidden_states) == case.settings["num_layers"] + 1
    for layer, hidden_states in enumerate(outputs.hidden_states[1:]):
        expected = case.expected[f"cls_after_block.{layer}"]
        torch.testing.assert_close(hidden_states[:, :, 0], expected, atol=1e-5, rtol=0)


def test_gradients_of_every_prompt(converted):
    case, folder = converted
    model = AutoModel.from_pretrained(folder).eval()
    model.freeze_backbone()
    model(case.expected["pixel_values"].transpose(1, 2), labels=case.expected["labels"]).loss.backward()
    names = [name.removeprefix("grad.") for name in case.expected if name.startswith("grad.")]
    assert len(names) > 2
    largest = max(case.expected[f"grad.{name}"].norm() for name in names)
    for name in names:
        expected = case.expected[f"grad.{name}"]
        # The gradient of a key's bias is zero (softmax does not see it): there, only noise is left to compare.
        scale = largest if name.endswith("k_proj.bias") else expected.norm()
        assert (our_gradient(model, name) - expected).norm() <= 1e-4 * scale, name


def test_released_trainable_parameters(converted):
    case, folder = converted
    vision = {"train_cls_projection": False}  # the released code freezes it by accident
    model = AutoModel.from_pretrained(folder, vision_config=vision)
    model.freeze_backbone()
    assert model.get_nb_trainable_parameters()[0] == case.settings["trainable_parameters"]


def test_processor_of_the_folder(converted):
    case, folder = converted
    processor = AutoProcessor.from_pretrained(folder)
    assert type(processor) is VitaClipProcessor
    names = [line.replace("_", " ") for line in case.classes.read_text().splitlines()]
    lengths = (case.expected["tokenized_prompts"] != 0).sum(-1)
    if case.settings["text_prompt_pos"] == "end":
        context = case.expected["tokenized_prompts"].shape[1]
        prompts = [
            f"{'X ' * AutoModel.from_pretrained(folder).config.text_config.num_context_tokens}{n}." for n in names
        ]
        ids = processor.tokenizer(prompts, padding="max_length", max_length=context, return_tensors="pt").input_ids
        for row, expected, length in zip(ids, case.expected["tokenized_prompts"], lengths, strict=True):
            assert row[-1] == processor.tokenizer.eos_token_id
            assert torch.equal(row[length - 3 : length], expected[length - 3 : length].long())
    size = processor.video_processor.crop_size
    assert (size["height"], size["width"]) == tuple(case.settings["input_size"])
    assert processor.video_processor.num_frames == case.settings["num_frames"]
    assert (processor.video_processor.resample, processor.video_processor.antialias) == (2, False)
    assert (processor.video_processor.sampling, processor.video_processor.frame_stride) == ("dense", 16)


def weights_of(case) -> dict:
    return torch.load(case.checkpoint, weights_only=True)


EMBEDDING = "module.textual.token_embedding.weight"
POSITIONS = "module.textual.positional_embedding"


def convert_changed(case, tmp_path, tokenizer_folder, change, **options):
    content = weights_of(case)
    changed = change(content)
    content = changed if isinstance(changed, dict) else content
    path = tmp_path / "changed.pth"
    torch.save(content, path)
    return conversion.convert_original(**case.options(tmp_path / "out", tokenizer_folder, checkpoint=path, **options))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c["model"].update({"module.visual.extra": torch.zeros(2)}), "have no place.*visual.extra"),
        (lambda c: c["model"].pop("module.visual.ln_post.weight") is None, "does not fill.*post_layernorm.weight"),
        (lambda c: c["model"].pop("module.visual.blocks.1.norm1.bias") is None, "layers.1.layer_norm1.bias"),
        (lambda c: c["model"].pop("module.prompt_learner.ctx") is None, "lacks prompt_learner.ctx"),
        (
            lambda c: c["model"].pop("module.visual.blocks.0.summary_ln.weight") is None,
            "no place in a model of this kind.*summary",
        ),
        (
            lambda c: c["model"].update({EMBEDDING: c["model"][EMBEDDING][:5]}),
            "the text tower knows only 5 tokens",
        ),
        (lambda c: c["model"].update({EMBEDDING: c["model"][EMBEDDING][:0]}), "no plain tensors .empty"),
        # Tensors without an entry can claim any size: these took 8 GB for each class.
        (lambda c: c["model"].update({POSITIONS: torch.zeros(10**9, 0)}), "no plain tensors .empty.*positional"),
        (lambda c: c["model"].update({POSITIONS: torch.zeros(10**6, 1)}), "positional_embedding has the width 1"),
        (lambda c: {"model": {}}, "expected"),
        (lambda c: {"model": {"a": 3}}, "expected"),
    ],
)
def test_every_key_is_accounted_for(golden_cases, tmp_path, tokenizer_folder, change, message):
    with pytest.raises(conversion.ConversionError, match=message):
        convert_changed(golden_cases["all_prompts_csc_end"], tmp_path, tokenizer_folder, change)


def test_checkpoint_without_wrapping(golden_cases, tmp_path, tokenizer_folder):
    """A plain state dict without the `module.` of data parallel training converts to the same weights."""
    case = golden_cases["all_prompts_csc_end"]
    plain = convert_changed(
        case, tmp_path, tokenizer_folder, lambda c: {k.removeprefix("module."): v for k, v in c["model"].items()}
    )
    usual = conversion.convert_original(**case.options(tmp_path / "usual", tokenizer_folder))
    for name, tensor in usual.state_dict().items():
        assert torch.equal(tensor, plain.state_dict()[name]), name


def test_patch_bias_is_folded_into_positions(golden_cases, tmp_path, tokenizer_folder):
    case = golden_cases["all_prompts_csc_end"]
    weights = weights_of(case)["model"]
    model = conversion.convert_original(**case.options(tmp_path, tokenizer_folder))
    positions = model.vision_model.embeddings.position_embedding.weight
    bias = weights["module.visual.patch_embed.proj.bias"]
    assert bias.abs().max() > 0
    torch.testing.assert_close(positions[1:], weights["module.visual.pos_embed"][1:] + bias)
    torch.testing.assert_close(positions[0], weights["module.visual.pos_embed"][0])


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["abseiling", "playing_the_drums", "riding a bike", "tai chi"], "4 classes, but .* trained on 5"),
        (["abseiling", "playing_the_drums", "riding a horse", "tai chi", "high jump"], "class 2 is 'riding a horse'"),
        (["playing_the_drums", "abseiling", "riding a bike", "tai chi", "high jump"], "class 0 is 'playing_the_drums'"),
        (["tai chi", "playing_the_drums", "riding a bike", "tai chi", "high jump"], "repeated: 'tai chi'"),
    ],
)
def test_wrong_class_list(golden_cases, tmp_path, tokenizer_folder, lines, message):
    classes = tmp_path / "classes.txt"
    classes.write_text("\n".join(lines))
    case = golden_cases["all_prompts_csc_end"]
    with pytest.raises(ValueError, match=message):
        conversion.convert_original(**case.options(tmp_path / "out", tokenizer_folder, classes=classes))


def test_output_that_is_a_file(golden_cases, tmp_path, tokenizer_folder):
    (tmp_path / "out").write_text("mine")
    with pytest.raises(conversion.ConversionError, match="a file is there"):
        conversion.convert_original(**golden_cases["all_prompts_csc_end"].options(tmp_path / "out", tokenizer_folder))
    assert (tmp_path / "out").read_text() == "mine"


def test_half_precision_weights_become_float32(golden_cases, tmp_path, tokenizer_folder):
    case = golden_cases["all_prompts_csc_end"]
    half = {name: tensor.half() for name, tensor in weights_of(case)["model"].items()}
    model = convert_changed(case, tmp_path, tokenizer_folder, lambda c: {"model": half})
    assert all(p.dtype == torch.float32 for p in model.parameters())
    expected = half["module.visual.proj"].float().T
    assert torch.equal(model.visual_projection.weight, expected)


def test_heads_that_do_not_divide(golden_cases, tmp_path, tokenizer_folder):
    case = golden_cases["all_prompts_csc_end"]
    with pytest.raises(conversion.ConversionError, match="width of 48 .* `vision_heads`"):
        conversion.convert_original(**case.options(tmp_path, tokenizer_folder, vision_heads=None))


class Malicious:
    def __reduce__(self):
        return (print, ("executed",))


def test_pickles_are_refused_and_not_executed(golden_cases, tmp_path, tokenizer_folder, run_script):
    case = golden_cases["all_prompts_csc_end"]
    path = tmp_path / "evil.pth"
    torch.save({"model": Malicious()}, path)
    result = run_script(
        *("-m", "vitaclip_hf.cli", "convert", "original", path, "--classes", case.classes),
        *("--output", tmp_path / "out", "--tokenizer", tokenizer_folder),
    )
    assert result.returncode == 2
    assert "executed" not in result.stdout + result.stderr
    assert "not a checkpoint of plain tensors" in result.stderr
    assert "Traceback" not in result.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("content", [b"", b"garbage" * 100, pickle.dumps({"model": {}})[:-5]])
def test_unreadable_checkpoint(golden_cases, tmp_path, tokenizer_folder, content):
    path = tmp_path / "broken.pth"
    path.write_bytes(content)
    with pytest.raises(conversion.ConversionError, match="broken.pth"):
        case = golden_cases["all_prompts_csc_end"]
        conversion.convert_original(**case.options(tmp_path / "out", tokenizer_folder, checkpoint=path))


def test_command_line(golden_cases, tmp_path, tokenizer_folder, run_script):
    case = golden_cases["summary_only_csc_middle"]
    result = run_script(
        *("-m", "vitaclip_hf.cli", "convert", "original", case.checkpoint, "--classes", case.classes),
        *("--output", tmp_path / "out", "--tokenizer", tokenizer_folder),
        *("--vision-heads", "4", "--text-heads", "2", "--context-position", "middle"),
    )
    assert result.returncode == 0, result.stderr
    model = AutoModel.from_pretrained(tmp_path / "out").eval()
    outputs = model(case.expected["pixel_values"].transpose(1, 2))
    torch.testing.assert_close(outputs.logits_per_video, case.expected["logits"], atol=1e-5, rtol=0)
    assert f"{model.num_parameters():,} parameters, 4 classes" in result.stdout
