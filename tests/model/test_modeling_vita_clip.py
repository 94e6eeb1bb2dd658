import copy
import shutil

import pytest
import torch
from attack.hostile_folders import tensors
from tiny_models import on_clip, set_classes, tiny_clip, tiny_config, tiny_model
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import AutoConfig, AutoModel, AutoModelForVideoClassification, CLIPModel

from vitaclip_hf import VitaClipForVideoClassification, VitaClipModel, VitaClipVisionModel
from vitaclip_hf.loading.checkpoint import CheckpointError, load_checkpoint
from vitaclip_hf.model.modeling_vita_clip import classification_loss
from vitaclip_hf.model.prompts import nearest_frames


NO_PROMPTS = {"use_summary_prompt": False, "use_local_prompts": False, "num_global_prompts": 0}


def videos(batch: int = 2, frames: int = 4, size: int = 32, seed: int = 1) -> torch.Tensor:
    return torch.randn(batch, frames, 3, size, size, generator=torch.Generator().manual_seed(seed))


def std(parameter: torch.Tensor) -> float:
    return parameter.detach().std().item()


@pytest.fixture(scope="module")
def stock_clip():
    return tiny_clip()


@pytest.fixture(scope="module")
def stock_folder(stock_clip, tmp_path_factory):
    folder = tmp_path_factory.mktemp("clip")
    stock_clip.save_pretrained(folder)
    return folder


def test_stock_clip_loads_bit_equal_and_prompts_are_initialised(stock_clip, stock_folder):
    model, info = on_clip(stock_folder, output_loading_info=True)
    stock = stock_clip.state_dict()
    ours = model.state_dict()
    assert set(ours) - set(stock) == set(info["missing_keys"])
    assert all(torch.equal(ours[name], stock[name]) for name in stock)
    layer = model.vision_model.encoder.layers[1].prompts
    width, heads_std = 48, 48**-0.5 * (2 * 2) ** -0.5
    assert model.vision_model.time_embedding.weight.eq(0).all()
    bound = (6 / (3 * 8**2 + width)) ** 0.5
    for prompts in (layer.local_prompts, layer.global_prompts):
        assert prompts.abs().max() <= bound and std(prompts) == pytest.approx(bound / 3**0.5, rel=0.1)
    assert layer.cls_projection.weight.abs().max() <= width**-0.5
    assert std(layer.cls_projection.weight) == pytest.approx(width**-0.5 / 3**0.5, rel=0.05)
    assert std(layer.summary_attention.q_proj.weight) == pytest.approx(heads_std, rel=0.05)
    assert std(layer.summary_attention.out_proj.weight) == pytest.approx(width**-0.5, rel=0.05)
    assert layer.summary_attention.q_proj.bias.eq(0).all()
    assert layer.summary_norm.weight.eq(1).all() and layer.summary_norm.bias.eq(0).all()
    assert std(model.class_prompts.context) == pytest.approx(0.02, rel=0.1)
    row = model.class_prompts.class_input_ids[0].tolist()
    assert row == [49406] + [-1] * 16 + [49407] + [-2] * (77 - 18)


def test_freezing_leaves_exactly_the_prompts(stock_clip):
    model = tiny_model()
    model.freeze_backbone()
    trainable = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert trainable == (set(dict(model.named_parameters())) - set(stock_clip.state_dict())) | {"logit_scale"}
    released = tiny_model(vision={"train_cls_projection": False})
    released.freeze_backbone()
    assert trainable - {name for name, p in released.named_parameters() if p.requires_grad} == {
        f"vision_model.encoder.layers.{layer}.prompts.cls_projection.{kind}"
        for layer in (0, 1)
        for kind in ("weight", "bias")
    }


@pytest.mark.parametrize("summary", [False, True])
@pytest.mark.parametrize("local", [False, True])
@pytest.mark.parametrize("count", [0, 3])
@torch.no_grad()
def test_any_subset_of_prompts(summary, local, count):
    """Each subset runs, has only its own parameters, and each of its prompts matters."""
    subset = {"use_summary_prompt": summary, "use_local_prompts": local, "num_global_prompts": count}
    model = tiny_model(vision=subset)
    names = {name.split(".")[5] for name, _ in model.named_parameters() if "layers.0.prompts" in name}
    expected = {"local_prompts"} if local else set()
    expected |= {"global_prompts"} if count else set()
    expected |= {"summary_norm", "summary_attention"} if summary else set()
    expected |= {"cls_projection"} if summary or local else set()
    assert names == expected
    before = model.get_video_features(videos()).pooler_output
    for name in expected:
        changed = copy.deepcopy(model)
        part = getattr(changed.vision_model.encoder.layers[1].prompts, name)
        for tensor in [part] if isinstance(part, torch.nn.Parameter) else part.parameters():
            tensor.add_(torch.randn(tensor.shape, generator=torch.Generator().manual_seed(2)) * 0.5)
        assert (changed.get_video_features(videos()).pooler_output - before).abs().max() > 1e-5, name


@torch.no_grad()
def test_frames_see_each_other_only_through_prompts():
    pixels = videos(batch=1)
    changed = pixels.clone()
    changed[:, 3] += 1
    alone = tiny_model(vision=NO_PROMPTS | {"num_global_prompts": 3})
    before, after = (alone.vision_model(p).pooler_output for p in (pixels, changed))
    assert torch.equal(before[:, :3], after[:, :3])
    for prompt in ("use_summary_prompt", "use_local_prompts"):
        model = tiny_model(vision=NO_PROMPTS | {prompt: True})
        before, after = (model.vision_model(p).pooler_output for p in (pixels, changed))
        assert (before[:, 0] - after[:, 0]).abs().max() > 1e-5


@pytest.mark.parametrize("frames", [1, 2, 3, 5, 8, 16])
@torch.no_grad()
def test_any_number_of_frames(frames):
    """Time embedding and local prompts are those of the nearest trained frame; a longer clip is never split."""
    model = tiny_model()
    nearest = [int(frame * 4 / frames) for frame in range(frames)]
    exact = tiny_model(vision={"num_frames": frames})
    weights = model.state_dict()
    for name, tensor in weights.items():
        if name.endswith(("time_embedding.weight", "local_prompts")):
            weights[name] = tensor[nearest]
    exact.load_state_dict(weights)
    pixels = videos(frames=frames)
    ours = model.get_video_features(pixels).pooler_output
    torch.testing.assert_close(ours, exact.get_video_features(pixels).pooler_output, atol=1e-6, rtol=0)


@torch.no_grad()
def test_last_layer_for_class_tokens_alone_is_exact():
    model = tiny_model()
    brief = model.vision_model(videos(), class_tokens_only=True)
    full = model.vision_model(videos(), output_hidden_states=True)
    assert brief.last_hidden_state is None and brief.hidden_states is None
    assert torch.equal(model.vision_model(videos()).last_hidden_state, full.last_hidden_state)
    assert [tuple(h.shape) for h in full.hidden_states] == [(2, 4, 17, 48)] * 3
    assert torch.equal(full.last_hidden_state, full.hidden_states[-1])
    torch.testing.assert_close(brief.pooler_output, full.pooler_output, atol=1e-6, rtol=0)
    assert model.get_video_features(videos()).last_hidden_state.shape == (2, 4, 17, 48)
    assert model.get_video_features(videos(), class_tokens_only=True).last_hidden_state is None
    shapes = [model(videos(), class_tokens_only=only).vision_model_output.last_hidden_state for only in (True, False)]
    assert shapes[0] is None and shapes[1].shape == (2, 4, 17, 48)


@torch.no_grad()
def test_attention_back_ends_agree_and_report_the_frames_attention():
    model = tiny_model()
    sdpa = model.get_video_features(videos()).pooler_output
    model.set_attn_implementation("eager")
    outputs = model.get_video_features(videos(), output_attentions=True)
    torch.testing.assert_close(outputs.pooler_output, sdpa, atol=1e-6, rtol=0)
    tokens = 17 + 1 + 4 + 8  # frame, summary, local, global
    assert [tuple(a.shape) for a in outputs.attentions] == [(8, 4, 17, tokens)] * 2
    torch.testing.assert_close(outputs.attentions[0].sum(-1), torch.ones(8, 4, 17))
    # The mean of equal values is the value. In bfloat16 the keys are padded, which must not count.
    half = tiny_model().to(torch.bfloat16).vision_model.encoder.layers[0].self_attn
    same = torch.randn(48, dtype=torch.bfloat16).expand(1, 2, 30, 48)
    torch.testing.assert_close(half(same, 17)[0], half.out_proj(half.v_proj(same[:, :, :17])), atol=0.02, rtol=0)


def test_activation_checkpointing_gives_the_same_gradients(tokenizer):
    def gradients(checkpointing: bool) -> dict[str, torch.Tensor]:
        model = tiny_model(tokenizer=tokenizer)
        model.freeze_backbone()
        model.train()
        if checkpointing:
            getattr(model, "activation_checkpointing_enable", model.gradient_checkpointing_enable)()  # transformers 5
            assert model.vision_model.encoder.layers[0].gradient_checkpointing
        model(videos(), labels=torch.tensor([0, 2])).loss.backward()
        return {name: p.grad for name, p in model.named_parameters() if p.requires_grad}

    plain, saved = gradients(False), gradients(True)
    for name in plain:
        torch.testing.assert_close(saved[name], plain[name], atol=1e-7, rtol=1e-5, msg=name)
        if not name.endswith("k_proj.bias"):
            assert plain[name].abs().sum() > 0, name


@torch.no_grad()
def test_another_resolution(stock_clip, stock_folder):
    model = on_clip(stock_folder, settings={"vision_config": NO_PROMPTS}).eval()
    pixels = videos(size=48)
    with pytest.raises(ValueError, match="48"):
        model.get_video_features(pixels)
    frames = stock_clip.get_image_features(pixels.flatten(0, 1), interpolate_pos_encoding=True).pooler_output
    features = model.get_video_features(pixels, interpolate_pos_encoding=True).pooler_output
    torch.testing.assert_close(features, frames.unflatten(0, (2, 4)).mean(1), atol=1e-6, rtol=0)


@pytest.mark.parametrize("shape", [(2, 3, 32, 32), (2, 0, 3, 32, 32), (0, 4, 3, 32, 32), (1, 2, 4, 3, 32, 32)])
def test_wrong_video_shapes(shape):
    with pytest.raises(ValueError, match=r"pixel_values_videos.*num_frames, num_channels, height, width.*got"):
        tiny_model()(torch.zeros(shape))


# Classes


@pytest.mark.parametrize(
    ("position", "template"),
    [("end", "a video of a {}."), ("front", "{} a video of a."), ("middle", "a {} video of.")],
)
@pytest.mark.parametrize("specific", [True, False])
@torch.no_grad()
def test_contexts_of_words_are_plain_texts(tokenizer, position, template, specific):
    """A context that holds the embeddings of words must give what CLIP gives for the written sentence."""
    words = template.replace("{}", "").strip(" .").split()
    text = {"context_init": " ".join(words), "num_context_tokens": len(words), "context_position": position}
    text["class_specific_context"] = specific
    names = ["archery", "playing_the_drums", "Tai Chi"]
    model = tiny_model(text=text, id2label=dict(enumerate(names)), tokenizer=tokenizer)
    sentences = [template.format(name.replace("_", " ")) for name in names]
    inputs = tokenizer(sentences, padding="max_length", max_length=77, return_tensors="pt")
    plain = model.get_text_features(**inputs).pooler_output
    torch.testing.assert_close(model.get_class_features().pooler_output, plain, atol=5e-6, rtol=0)


@pytest.mark.parametrize("specific", [True, False])
def test_without_context_classes_are_their_plain_names(tokenizer, tmp_path, specific):
    """The paper's rows of vision prompts alone."""
    model = tiny_model(text={"num_context_tokens": 0, "class_specific_context": specific}, tokenizer=tokenizer)
    names = [f"{name}." for name in model.config.id2label.values()]
    plain = model.get_text_features(**tokenizer(names, padding=True, return_tensors="pt")).pooler_output
    model.save_pretrained(tmp_path)
    for one in (model, VitaClipModel.from_pretrained(tmp_path)):
        torch.testing.assert_close(one.get_class_features().pooler_output, plain, atol=1e-6, rtol=0)
    model.freeze_backbone()
    model.train()(torch.randn(1, 8, 3, 32, 32)).logits_per_video.sum().backward()
    assert model.vision_model.encoder.layers[0].prompts.global_prompts.grad.abs().sum() > 0
    assert all(part.grad is not None for part in model.parameters() if part.requires_grad)  # ranks wait for them


@pytest.mark.parametrize("trained", [True, False])
@torch.no_grad()
def test_new_classes_on_a_loaded_model(tokenizer, trained):
    model = tiny_model(tokenizer=tokenizer).requires_grad_(trained)
    before = model.class_prompts.context.clone()
    set_classes(model, ["tai chi", "high jump"], tokenizer)
    assert model.config.id2label == {0: "tai chi", 1: "high jump"} and model.config.num_labels == 2
    assert model.config.label2id == {"tai chi": 0, "high jump": 1}
    context = model.class_prompts.context
    assert torch.equal(context[0], before[2]) and context.requires_grad == trained
    torch.testing.assert_close(context[1], before.mean(0))
    assert model(videos()).logits_per_video.shape == (2, 2)
    set_classes(model, ["x", "y"], tokenizer)
    assert model.class_prompts.context is context  # as many as before: an optimizer's parameter stays the model's


@torch.no_grad()
def test_first_classes_of_a_fresh_model(tokenizer):
    torch.manual_seed(0)
    model = VitaClipModel(tiny_config(text={"num_context_tokens": 16}))
    set_classes(model, [f"class {index}" for index in range(40)], tokenizer)
    context = model.class_prompts.context
    assert std(context) == pytest.approx(0.02, rel=0.05)
    assert context.mean(0).std() < 0.006  # independent draws: their mean shrinks
    assert context.requires_grad


@pytest.mark.parametrize("specific", [True, False])
@torch.no_grad()
def test_words_are_the_start_of_new_contexts_only(tokenizer, specific):
    text = {"context_init": "a video of a", "class_specific_context": specific}
    model = tiny_model(text=text, tokenizer=tokenizer)
    words = model.class_prompts.context[0].clone() if specific else model.class_prompts.context.clone()
    learned = torch.nn.init.normal_(model.class_prompts.context).clone()
    set_classes(model, ["tai chi", "high jump"], tokenizer)
    expected = torch.stack([learned[2], words]) if specific else learned
    assert torch.equal(model.class_prompts.context, expected)


def test_shared_context_stays(tokenizer):
    model = tiny_model(text={"class_specific_context": False})
    before = model.class_prompts.context.clone()
    with pytest.raises(ValueError, match="set_classes"):
        model(videos())
    set_classes(model, ["a", "b", "c", "d"], tokenizer)
    assert torch.equal(model.class_prompts.context, before)
    assert model(videos()).logits_per_video.shape == (2, 4)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ([], "non-empty list"),
        (["archery", " _ "], "' _ ' at position 1"),
        (["archery", 3], "3 at position 1"),
        (["archery", "tai chi", "archery"], "'archery' and 'archery' have the same prompt"),
        (["riding_a_bike", "Riding a bike"], "'riding_a_bike' and 'Riding a bike' have the same prompt"),
        (["a very long name " * 300], "takes 1[0-9]{3} tokens.*77 positions"),
        ("archery" * 100, "non-empty list"),
    ],
)
def test_bad_class_names_change_nothing(tokenizer, names, message):
    model = tiny_model(tokenizer=tokenizer)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    labels = dict(model.config.id2label)
    with pytest.raises(ValueError, match=message) as error:
        set_classes(model, names, tokenizer)
    assert model.config.id2label == labels and len(str(error.value)) < 500
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


@pytest.mark.parametrize(
    ("text", "message"), [({"context_init": "a video of a person"}, "5 tokens long"), ({"vocab_size": 1000}, "49407")]
)
def test_texts_and_tokens_that_do_not_fit_the_text_tower(tokenizer, text, message):
    with pytest.raises(ValueError, match=message):
        set_classes(VitaClipModel(tiny_config(text=text)), ["x", "y"], tokenizer)


# Loss


def test_loss_by_hand(tokenizer):
    model = tiny_model(tokenizer=tokenizer)
    outputs = model(videos(), labels=torch.tensor([2, 0]))
    logits = (outputs.video_embeds @ outputs.text_embeds.T * model.logit_scale.exp()).double()
    expected = -(logits.exp() / logits.exp().sum(1, keepdim=True))[[0, 1], [2, 0]].log().sum().item()
    assert outputs.loss.item() == pytest.approx(expected / 2, rel=1e-5)
    shared = model(videos(), labels=torch.tensor([2, 0]), num_items_in_batch=8)
    assert shared.loss.item() == pytest.approx(expected / 8, rel=1e-5)


def test_loss_of_soft_labels_as_trainer_counts_them():
    """Trainer counts every entry of the labels: two videos of three classes are six."""
    logits, soft = torch.randn(2, 3), torch.tensor([[0.25, 0.75, 0.0], [0.0, 0.5, 0.5]])
    plain = -(soft * logits.log_softmax(1)).sum(1).mean()
    torch.testing.assert_close(classification_loss(logits, soft), plain)
    torch.testing.assert_close(classification_loss(logits, soft, int((soft != -100).sum())), plain)


@pytest.mark.parametrize(
    "labels", [torch.tensor([[0], [1]]), torch.tensor([0.0, 1.0]), torch.rand(2, 4), torch.tensor([0])]
)
def test_labels_of_another_shape(labels):
    with pytest.raises(ValueError, match="class indices of shape .2. or probabilities of shape .2, 3."):
        classification_loss(torch.randn(2, 3), labels)


# Closed set, and its class matrix


def count_text_passes(model) -> list[int]:
    passes = []
    model.text_model.encoder.register_forward_hook(lambda *_: passes.append(1))
    return passes


@torch.no_grad()
def test_class_matrix_is_computed_once_and_never_stale(tokenizer):
    model = tiny_model(tokenizer=tokenizer, cls=VitaClipForVideoClassification)
    passes = count_text_passes(model)

    def check(expected_passes: int, what: str) -> None:
        logits = model(videos().to(model.dtype)).logits
        assert len(passes) == expected_passes, what
        reference = VitaClipModel.forward(model, videos().to(model.dtype)).logits_per_video
        passes.pop()  # the reference's own pass
        assert torch.equal(logits, reference), what

    check(1, "first")
    check(1, "again")
    with torch.inference_mode():
        check(1, "under inference_mode")
    model.class_prompts.context.add_(0.1)
    check(2, "in place")
    model.text_projection.weight.mul_(-1)
    check(3, "in place, the projection")
    layer = model.text_model.encoder.layers[0].self_attn.q_proj
    layer.bias = torch.nn.Parameter(torch.ones_like(layer.bias))
    check(4, "a replaced parameter")
    set_classes(model, ["tai chi", "archery"], tokenizer)
    check(5, "new classes")
    model.load_state_dict(
        {name: tensor * 1.01 if tensor.is_floating_point() else tensor for name, tensor in model.state_dict().items()}
    )
    check(6, "load_state_dict")
    model.vision_model.time_embedding.weight.add_(1)
    check(6, "the video side does not matter")
    model.to(torch.bfloat16).to(torch.float32)
    check(7, "rounded and back")
    model.to(torch.float64)
    check(8, "another dtype")


def test_class_matrix_in_training_has_gradients_and_leaves_no_stale_classes(tokenizer):
    """A fused optimizer writes without counting."""
    model = tiny_model(tokenizer=tokenizer, cls=VitaClipForVideoClassification)
    optimizer = torch.optim.AdamW([model.class_prompts.context], lr=0.1, fused=True)
    with torch.no_grad():
        before = model(videos()).logits
    passes = count_text_passes(model)
    for expected in (1, 2):
        model.train()(videos(), labels=torch.tensor([0, 1])).loss.backward()
        assert len(passes) == expected
    assert model.class_prompts.context.grad.abs().sum() > 0
    with torch.no_grad():
        assert torch.equal(model.eval()(videos()).logits, before)
    optimizer.step()
    with torch.no_grad():
        after = model.eval()(videos()).logits
        assert not torch.equal(after, before)
        assert torch.equal(after, VitaClipModel.forward(model, videos()).logits_per_video)


# Saving and loading


@pytest.mark.parametrize("auto", [AutoModel, AutoModelForVideoClassification])
@pytest.mark.parametrize("subset", [{}, NO_PROMPTS])
def test_round_trip_is_bit_equal(tokenizer, tmp_path, auto, subset):
    model = tiny_model(vision=subset, tokenizer=tokenizer)
    model.save_pretrained(tmp_path)
    loaded = auto.from_pretrained(tmp_path)
    with torch.no_grad():
        expected = model(videos()).logits_per_video
        outputs = loaded.eval()(videos())
    assert torch.equal(outputs["logits" if "logits" in outputs else "logits_per_video"], expected)
    loaded.save_pretrained(tmp_path / "again")
    assert (tmp_path / "again" / "model.safetensors").read_bytes() == (tmp_path / "model.safetensors").read_bytes()
    assert AutoConfig.from_pretrained(tmp_path / "again").architectures == [type(loaded).__name__]


def test_vision_tower_alone(tokenizer, whole_folder, tmp_path):
    model = tiny_model(tokenizer=tokenizer)
    model.vision_model.save_pretrained(tmp_path / "tower")
    for loaded in (
        VitaClipVisionModel.from_pretrained(whole_folder),
        VitaClipVisionModel.from_pretrained(tmp_path / "tower"),
        AutoModel.from_pretrained(tmp_path / "tower"),
    ):
        assert type(loaded) is VitaClipVisionModel
        ours = model.vision_model.state_dict()
        assert all(torch.equal(tensor, ours[name]) for name, tensor in loaded.state_dict().items())


@torch.no_grad()
def test_classifier_refuses_texts_and_its_class_embeds_are_the_callers_own(tokenizer):
    model = tiny_model(tokenizer=tokenizer, cls=VitaClipForVideoClassification)
    with pytest.raises(ValueError, match="input_ids"):
        model(videos(), input_ids=torch.tensor([[1, 2]]))
    logits = [model(videos(), class_tokens_only=only).logits for only in (True, False)]  # as of the video tower
    torch.testing.assert_close(*logits, atol=1e-5, rtol=0)
    expected = model.get_class_embeds().clone()
    model.get_class_embeds().mul_(2)
    assert torch.equal(model.get_class_embeds(), expected)


def test_nameless_prompts_of_a_legacy_configuration():
    """OpenAI's published configurations name 0 and 2 as start and end, which their own vocabulary does not."""
    model = tiny_model(text={"bos_token_id": 0, "eos_token_id": 2})
    assert model.class_prompts.class_input_ids[0, :6].tolist() == [49406, -1, -1, -1, -1, 49407]


@pytest.mark.gpu
@pytest.mark.parametrize("attention", ["sdpa", "eager", "flash_attention_2"])
@torch.no_grad()
def test_attention_back_ends_on_a_gpu(attention, tokenizer):
    if attention == "flash_attention_2":
        pytest.importorskip("flash_attn")
    model = tiny_model(tokenizer=tokenizer)
    expected = model(videos()).logits_per_video
    model.to("cuda", torch.bfloat16).set_attn_implementation(attention)
    outputs = model(videos().to("cuda", torch.bfloat16))
    assert (outputs.logits_per_video.float().cpu() - expected).abs().max() < 0.5


@pytest.fixture(scope="module")
def whole_folder(tokenizer, tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    tiny_model(tokenizer=tokenizer).save_pretrained(folder)
    return folder


@pytest.mark.parametrize(
    "name",
    ["class_prompts.context", "vision_model.time_embedding.weight", "class_prompts.class_input_ids", "logit_scale"],
)
def test_a_whole_folder_must_have_all_its_prompts(whole_folder, tmp_path, name):
    lacking = shutil.copytree(whole_folder, tmp_path / "lacking")
    tensors(lambda weights: weights.pop(name))(lacking)
    with pytest.raises(CheckpointError, match=f"{name} is missing"):
        load_checkpoint(lacking)


def test_a_cut_configuration_leaves_weights_without_a_place(whole_folder):
    for change in ({"vision_config": {"num_hidden_layers": 1}}, {"vision_config": {"num_global_prompts": 0}}):
        with pytest.raises(CheckpointError, match=r"encoder.layers.\d.*has no place"):
            load_checkpoint(whole_folder, **change)
        VitaClipModel.from_pretrained(whole_folder, **change)  # transformers lists them in a warning


@pytest.mark.parametrize("offload_buffers", [False, True])
def test_class_prompts_on_the_disk(tokenizer, whole_folder, tmp_path, offload_buffers):
    model = tiny_model(tokenizer=tokenizer, cls=VitaClipForVideoClassification)
    parts = dict.fromkeys(("text_model", "class_prompts", "text_projection"), "disk")
    places = parts | {"vision_model": "cpu", "visual_projection": "cpu", "logit_scale": "cpu"}
    loaded = VitaClipForVideoClassification.from_pretrained(
        whole_folder, device_map=places, offload_folder=tmp_path / "disk", offload_buffers=offload_buffers
    )
    with torch.no_grad():
        assert torch.equal(loaded(videos()).logits, model(videos()).logits)


def test_nearest_frames_are_those_of_torch():
    for trained in (1, 2, 3, 8, 16):
        for frames in (1, 2, 5, 8, 12, 41, 82, 94, 123):
            numbers = torch.arange(trained, dtype=torch.float32)[None, None]
            expected = torch.nn.functional.interpolate(numbers, size=frames, mode="nearest")[0, 0].long()
            assert torch.equal(nearest_frames(trained, frames, expected.device), expected)


class KernelCount(TorchDispatchMode):
    """Counts the kernels that are dispatched. A view launches none."""

    def __init__(self):
        super().__init__()
        self.kernels = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.kernels += not function.is_view and function != torch.ops.aten._unsafe_view.default
        return function(*args, **(kwargs or {}))


def kernels(layers: int, use_prompts: bool) -> int:
    model = tiny_model(vision={"num_hidden_layers": layers})
    with KernelCount() as count:
        model.get_video_features(videos(), class_tokens_only=True, use_prompts=use_prompts)
    return count.kernels


def test_launches_of_a_layer():
    """
    CLIP's layer is 14 kernels. Prompts add the projection of the class tokens, norm, three products, attention, product
    and sum of the summary; choice and sum of the local prompts; and the copies of tokens for keys and for queries.
    """
    assert kernels(3, use_prompts=True) - kernels(2, use_prompts=True) <= 14 + 8 + 2 + 2
    assert kernels(3, use_prompts=False) - kernels(2, use_prompts=False) == 14
    assert kernels(2, use_prompts=True) <= 2 * 26 + 13  # indices are made once for all layers


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("activation", ["quick_gelu", "gelu"])
def test_prompts_off_is_clip_to_the_bit(stock_clip, tmp_path, attention, activation):
    config = copy.deepcopy(stock_clip.config)
    config.text_config.hidden_act = config.vision_config.hidden_act = activation
    CLIPModel(config).save_pretrained(tmp_path)
    clip = CLIPModel.from_pretrained(tmp_path, attn_implementation=attention).eval()
    model, pixels = on_clip(tmp_path, attn_implementation=attention).eval(), videos(frames=5)
    torch.nn.init.normal_(model.vision_model.time_embedding.weight)
    ids = torch.tensor([[49406, 320, 1000, 49407], [49406, 7, 49407, 49407]])
    with torch.no_grad():

        def features(**kwargs):
            return model.get_video_features(pixels, **kwargs).pooler_output

        expected = clip.get_image_features(pixels.flatten(0, 1)).pooler_output.unflatten(0, (2, 5)).mean(1)
        assert (features() - expected).abs().max() > 1e-3
        assert torch.equal(features(use_prompts=False), expected)
        assert torch.equal(features(use_prompts=False, class_tokens_only=True), expected)
        texts = {"input_ids": ids, "attention_mask": torch.tensor([[1, 1, 1, 1], [1, 1, 1, 0]])}
        ours, one = model(pixels[:, :1], **texts, use_prompts=False), clip(pixel_values=pixels[:, 0], **texts)
        torch.testing.assert_close(ours.logits_per_video, one.logits_per_image, atol=1e-5, rtol=0)
        features_of_texts = clip.get_text_features(**texts).pooler_output
        assert torch.equal(ours.text_embeds, torch.nn.functional.normalize(features_of_texts, dim=-1))


def test_learned_classes_without_prompts_are_an_error(tokenizer):
    for cls in (VitaClipModel, VitaClipForVideoClassification):
        model = tiny_model(tokenizer=tokenizer, cls=cls)
        with torch.no_grad():
            model(videos())  # fills the cache of class features
            with pytest.raises(ValueError, match="no learned classes"):
                model(videos(), use_prompts=False)
