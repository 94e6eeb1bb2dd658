"""The conversion of released checkpoints, and through it the model's arithmetic, against the golden cases."""

import re

import pytest
import torch
from payload import Payload
from tiny_models import GOLDEN_CASES
from transformers import AutoModel, AutoModelForVideoClassification, AutoProcessor

from vitaclip_hf import VitaClipForVideoClassification, VitaClipModel, VitaClipProcessor
from vitaclip_hf.cli.main import main
from vitaclip_hf.conversion import convert_vita_clip_original as conversion


PLAIN = {
    "logit_scale": "logit_scale",
    "prompt_learner.ctx": "class_prompts.context",
    "visual.time_embed": "vision_model.time_embedding.weight",
}
PARTS = {"cls_proj": "cls_projection", "summary_attn_layer": "summary_attention", "summary_ln": "summary_norm"}
EXACT, LOGITS = {"atol": 1e-6, "rtol": 0}, {"atol": 1e-5, "rtol": 0}


def our_gradient(model, released_name: str) -> torch.Tensor:
    """The gradient of the parameter that the released code calls so, in its layout."""
    gradients = {name: parameter.grad for name, parameter in model.named_parameters()}
    if released_name == "visual.global_prompts":
        layers = range(model.config.vision_config.num_hidden_layers)
        return torch.stack([gradients[f"vision_model.encoder.layers.{n}.prompts.global_prompts"] for n in layers])
    name = re.sub(r"visual\.blocks\.(\d+)\.", r"vision_model.encoder.layers.\1.prompts.", released_name)
    for theirs, ours in PARTS.items():
        name = name.replace(theirs, ours)
    gradient = gradients[PLAIN.get(released_name, name)]
    return gradient[None] if name.endswith("local_prompts") else gradient


@pytest.fixture(scope="module", params=GOLDEN_CASES)
def converted(request, golden_cases, tokenizer_folder, tmp_path_factory):
    """A case, its converted folder and the loaded model with frozen backbone."""
    case, folder = golden_cases[request.param], tmp_path_factory.mktemp("converted")
    conversion.convert_original(**case.options(folder, tokenizer_folder))
    model = AutoModel.from_pretrained(folder).eval()
    assert type(model) is VitaClipModel
    model.freeze_backbone()
    return case, folder, model


def test_features_logits_loss_and_gradients(converted):
    case, folder, model = converted
    pixels, expected = case.expected["pixel_values"].transpose(1, 2), case.expected
    outputs = model(pixels, labels=expected["labels"])
    torch.testing.assert_close(outputs.vision_model_output.pooler_output, expected["video_features"], **EXACT)
    torch.testing.assert_close(outputs.text_model_output.pooler_output, expected["text_features"], **EXACT)
    torch.testing.assert_close(outputs.logits_per_video, expected["logits"], **LOGITS)
    assert torch.equal(outputs.logits_per_text, outputs.logits_per_video.T)
    torch.testing.assert_close(outputs.loss, expected["loss"][0], **LOGITS)
    closed = AutoModelForVideoClassification.from_pretrained(folder).eval()
    assert type(closed) is VitaClipForVideoClassification
    with torch.no_grad():
        torch.testing.assert_close(closed(pixels).logits, expected["logits"], **LOGITS)
    outputs.loss.backward()
    names = [name.removeprefix("grad.") for name in expected if name.startswith("grad.")]
    assert len(names) > 2
    largest = max(expected[f"grad.{name}"].norm() for name in names)
    for name in names:
        gradient = expected[f"grad.{name}"]
        # The gradient of a key's bias is zero (softmax does not see it): there, only noise is left to compare.
        scale = largest if name.endswith("k_proj.bias") else gradient.norm()
        assert (our_gradient(model, name) - gradient).norm() <= 1e-4 * scale, name


def test_class_tokens_after_every_layer(converted):
    case, _, model = converted
    outputs = model.vision_model(case.expected["pixel_values"].transpose(1, 2), output_hidden_states=True)
    assert len(outputs.hidden_states) == case.settings["num_layers"] + 1
    for layer, hidden_states in enumerate(outputs.hidden_states[1:]):
        torch.testing.assert_close(hidden_states[:, :, 0], case.expected[f"cls_after_block.{layer}"], **EXACT)


def test_released_trainable_parameters(converted):
    case, folder, _ = converted
    vision = {"train_cls_projection": False}  # the released code freezes it by accident
    model = AutoModel.from_pretrained(folder, vision_config=vision)
    model.freeze_backbone()
    assert model.num_parameters(only_trainable=True) == case.settings["trainable_parameters"]


def test_processor_of_the_folder(converted):
    case, folder, model = converted
    processor = AutoProcessor.from_pretrained(folder)
    assert type(processor) is VitaClipProcessor
    tokenized = case.expected["tokenized_prompts"]
    if case.settings["text_prompt_pos"] == "end":
        prompts = [
            f"{'X ' * model.config.text_config.num_context_tokens}{line.replace('_', ' ')}."
            for line in case.classes.read_text().splitlines()
        ]
        padding = {"padding": "max_length", "max_length": tokenized.shape[1], "return_tensors": "pt"}
        for ids, expected in zip(processor.tokenizer(prompts, **padding).input_ids, tokenized, strict=True):
            length = (expected != 0).sum()
            assert ids[-1] == processor.tokenizer.eos_token_id
            assert torch.equal(ids[length - 3 : length], expected[length - 3 : length].long())
    video = processor.video_processor
    assert (video.crop_size["height"], video.crop_size["width"]) == tuple(case.settings["input_size"])
    assert (video.num_frames, video.resample, video.antialias) == (case.settings["num_frames"], 2, False)
    assert (video.sampling, video.frame_stride) == ("dense", 16)


@pytest.fixture
def convert(golden_cases, tmp_path, tokenizer_folder):
    """Converts the case with all prompts; `content` replaces the checkpoint's."""
    case = golden_cases["all_prompts_csc_end"]

    def run(content=None, output="out", **options):
        if content is not None:
            torch.save(content, tmp_path / "changed.pth")
            options["checkpoint"] = tmp_path / "changed.pth"
        return conversion.convert_original(**case.options(tmp_path / output, tokenizer_folder, **options))

    return run


@pytest.fixture
def weights(golden_cases) -> dict[str, torch.Tensor]:
    return torch.load(golden_cases["all_prompts_csc_end"].checkpoint, weights_only=True)["model"]


EMBEDDING, POSITIONS = "module.textual.token_embedding.weight", "module.textual.positional_embedding"


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("module.visual.extra", torch.zeros(2), "have no place.*visual.extra"),
        ("module.visual.ln_post.weight", None, "post_layernorm.weight"),
        ("module.prompt_learner.ctx", None, "lacks prompt_learner.ctx"),
        ("module.visual.blocks.0.summary_ln.weight", None, "summary.* has no place"),
        (EMBEDDING, lambda table: table[:5], "tower has 5 tokens"),
        # Tensors without an entry can claim any size: these took 8 GB for each class.
        (POSITIONS, torch.zeros(10**9, 0), "no plain tensors .empty.*positional"),
        (POSITIONS, torch.zeros(10**6, 1), "positional_embedding has the width 1"),
        ("module.logit_scale", torch.tensor(float("nan")), "finite.*logit_scale"),
        ("module.visual.proj", torch.zeros(3), "visual.proj"),
        ("module.visual.global_prompts", torch.zeros(()), "shapes"),
        ("module.a", 3, "expected"),
    ],
)
def test_every_key_is_accounted_for(convert, weights, name, value, message):
    value = value(weights[name]) if callable(value) else value
    content = {key: tensor for key, tensor in weights.items() if key != name} | ({} if value is None else {name: value})
    with pytest.raises(ValueError, match=message):
        convert({"model": content})


def test_checkpoint_without_wrapping(convert, weights):
    """A plain state dict without the `module.` of data parallel training converts to the same weights."""
    plain = convert({name.removeprefix("module."): tensor for name, tensor in weights.items()}).state_dict()
    usual = convert(output="usual").state_dict()
    assert [name for name, tensor in usual.items() if not torch.equal(tensor, plain[name])] == []
    positions, original = (
        usual["vision_model.embeddings.position_embedding.weight"],
        weights["module.visual.pos_embed"],
    )
    bias = weights["module.visual.patch_embed.proj.bias"]  # is folded into the positions
    assert bias.abs().max() > 0 and torch.equal(positions[0], original[0])
    torch.testing.assert_close(positions[1:], original[1:] + bias)


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["abseiling", "playing_the_drums", "riding a bike", "tai chi"], "4 classes, but .* trained on 5"),
        (["abseiling", "playing_the_drums", "riding a horse", "tai chi", "high jump"], "class 2 is 'riding a horse'"),
        (["playing_the_drums", "abseiling", "riding a bike", "tai chi", "high jump"], "class 0 is 'playing_the_drums'"),
        (["tai chi", "playing_the_drums", "riding a bike", "tai chi", "high jump"], "'tai chi'"),
    ],
)
def test_wrong_class_list(convert, tmp_path, lines, message):
    (tmp_path / "classes.txt").write_text("\n".join(lines))
    with pytest.raises(ValueError, match=message):
        convert(classes=tmp_path / "classes.txt")


def test_half_precision_weights_become_float32(convert, weights):
    half = {name: tensor.half() for name, tensor in weights.items()}
    model = convert({"model": half})
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    assert torch.equal(model.visual_projection.weight, half["module.visual.proj"].float().T)


def test_arguments_that_do_not_fit(convert, tmp_path):
    with pytest.raises(ValueError, match="width of 48 .* `vision_heads`"):
        convert(vision_heads=None)
    (tmp_path / "out").write_text("mine")
    with pytest.raises(ValueError, match="`output`"):
        convert()
    assert (tmp_path / "out").read_text() == "mine"


def test_command_line(golden_cases, tmp_path, tokenizer_folder, capsys):
    case = golden_cases["summary_only_csc_middle"]
    options = ["--classes", case.classes, "--output", tmp_path / "out", "--tokenizer", tokenizer_folder]
    options += ["--vision-heads", "4", "--text-heads", "2", "--context-position", "middle"]
    torch.save({"model": Payload(tmp_path / "executed")}, tmp_path / "evil.pth")
    assert main(["convert", "original", *map(str, [tmp_path / "evil.pth", *options])]) == 2
    refused = capsys.readouterr()
    assert not (tmp_path / "executed").exists() and not (tmp_path / "out").exists()
    assert "FILE" in refused.err and "evil.pth" in refused.err and refused.err.count("\n") == 1
    assert main(["convert", "original", *map(str, [case.checkpoint, *options])]) == 0
    model = AutoModel.from_pretrained(tmp_path / "out").eval()
    outputs = model(case.expected["pixel_values"].transpose(1, 2))
    torch.testing.assert_close(outputs.logits_per_video, case.expected["logits"], **LOGITS)
    assert f"{model.num_parameters():,} parameters, 4 classes" in capsys.readouterr().out
