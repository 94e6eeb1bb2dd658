import json

import pytest
import torch
from huggingface_hub.errors import StrictDataclassError
from transformers import AutoConfig, CLIPConfig, CLIPTextConfig, CLIPVisionConfig

from vitaclip_hf import VitaClipConfig, VitaClipModel, VitaClipTextConfig, VitaClipVisionConfig
from vitaclip_hf.loading.clip_backbones import add_prompts


def test_defaults_are_the_papers():
    config = VitaClipConfig()
    vision, text = config.vision_config, config.text_config
    assert (type(vision), type(text)) == (VitaClipVisionConfig, VitaClipTextConfig)
    assert (vision.image_size, vision.patch_size, vision.num_frames, vision.num_global_prompts) == (224, 16, 8, 8)
    for part, width, heads in ((vision, 768, 12), (text, 512, 8)):
        assert (part.hidden_size, part.intermediate_size, part.num_attention_heads) == (width, 4 * width, heads)
        assert part.num_hidden_layers == 12
    assert config.projection_dim == 512
    assert (vision.use_summary_prompt, vision.use_local_prompts, vision.train_cls_projection) == (True, True, True)
    assert (text.num_context_tokens, text.context_position, text.class_specific_context) == (16, "end", True)


def test_number_of_frames_is_one_field_under_two_names():
    config = VitaClipConfig(num_frames=16)
    assert config.num_frames == config.vision_config.num_frames == 16
    config.num_frames = 4
    assert config.vision_config.num_frames == 4
    with pytest.raises(StrictDataclassError, match="num_frames"):
        config.num_frames = "many"


def test_round_trip_and_overrides(tmp_path):
    config = VitaClipConfig(num_frames=4, text_config={"context_position": "middle"}, id2label={0: "a", 1: "b", 2: "c"})
    config.save_pretrained(tmp_path)
    loaded = AutoConfig.from_pretrained(tmp_path)
    assert type(loaded) is VitaClipConfig
    for part in ("text_config", "vision_config"):
        assert getattr(loaded, part).to_dict() == getattr(config, part).to_dict()
    changed = AutoConfig.from_pretrained(tmp_path, vision_config={"num_frames": 16})
    assert changed.num_frames == 16 and changed.vision_config.num_global_prompts == 8
    assert changed.text_config.context_position == "middle"


def test_parts_of_transformers_are_taken_by_their_values():
    given = {"text_config": CLIPTextConfig(hidden_size=64), "vision_config": CLIPVisionConfig(image_size=64)}
    config = VitaClipConfig(**given)
    assert (type(config.text_config), type(config.vision_config)) == (VitaClipTextConfig, VitaClipVisionConfig)
    assert (config.text_config.hidden_size, config.vision_config.image_size) == (64, 64)
    assert config.vision_config.patch_size == CLIPVisionConfig().patch_size and config.num_frames == 8
    with pytest.raises(TypeError, match="`text_config` must be .*CLIPTextConfig, got CLIPVisionConfig"):
        VitaClipConfig(text_config=given["vision_config"])


L14 = {"hidden_size": 1024, "num_attention_heads": 16, "patch_size": 14}


@pytest.mark.parametrize(
    ("content", "sizes"),
    [
        (CLIPConfig(vision_config=L14).to_dict(), (14, 1024, 512)),
        # OpenAI's published L/14 says its sizes under these names too.
        ({"vision_config_dict": L14, "text_config_dict": {"hidden_size": 768}}, (14, 1024, 768)),
        # Old files leave out CLIP's own defaults, `model_type` of the parts, or the parts.
        ({"vision_config": {"hidden_size": 768}}, (32, 768, 512)),
        ({}, (32, 768, 512)),
    ],
)
def test_stock_clip_configurations_keep_their_sizes(tmp_path, content, sizes):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "clip"} | content))
    config = add_prompts(CLIPConfig.from_pretrained(tmp_path), {"vision_config": {"num_global_prompts": 3}})
    vision, text = config.vision_config, config.text_config
    assert (vision.patch_size, vision.hidden_size, text.hidden_size) == sizes
    assert (config.num_frames, vision.num_global_prompts) == (8, 3)
    assert (type(vision), type(text)) == (VitaClipVisionConfig, VitaClipTextConfig)
    assert (config.model_type, text.model_type) == ("vita_clip", "vita_clip_text_model")


@pytest.mark.parametrize(
    ("part", "field", "value"),
    [
        *(("vision_config", "num_frames", value) for value in (0, "8")),
        *(("vision_config", "num_global_prompts", -1), ("vision_config", "use_summary_prompt", 2)),
        *(("vision_config", "use_local_prompts", None), ("vision_config", "train_cls_projection", "yes")),
        *(("text_config", "num_context_tokens", value) for value in (-1, 75)),
        *(("text_config", "context_position", "back"), ("text_config", "class_specific_context", 1.5)),
        ("text_config", "context_init", 3),
    ],
)
def test_wrong_fields_are_named(part, field, value):
    with pytest.raises(StrictDataclassError, match=field):
        VitaClipConfig(**{part: {field: value}})


RELEASED = {"vision_config": {"train_cls_projection": False}, "text_config": {"num_context_tokens": 8}}


@pytest.mark.parametrize(("settings", "trainable"), [({}, 38_884_353), (RELEASED, 30_158_849)])
def test_trainable_parameters(settings, trainable):
    """The paper's count: all parts, and without `cls_proj` (7,087,104) and half the context (1,638,400)."""
    config = VitaClipConfig(**settings, num_labels=400)
    with torch.device("meta"):
        model = VitaClipModel(config)
    model.freeze_backbone()
    assert model.num_parameters(only_trainable=True) == trainable
