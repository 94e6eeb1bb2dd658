import json
from pathlib import Path

import pytest
from huggingface_hub.errors import StrictDataclassError
from transformers import AutoConfig, CLIPConfig

from vitaclip_hf import VitaClipConfig, VitaClipModel, VitaClipTextConfig, VitaClipVisionConfig
from vitaclip_hf.loading.clip_backbones import add_prompts


MODELS = Path(__file__).parents[2] / "configuration" / "models"


def test_defaults_are_the_papers():
    config = VitaClipConfig()
    vision, text = config.vision_config, config.text_config
    assert (type(vision), type(text)) == (VitaClipVisionConfig, VitaClipTextConfig)
    assert (vision.patch_size, vision.hidden_size, vision.num_frames, vision.num_global_prompts) == (16, 768, 8, 8)
    assert (vision.use_summary_prompt, vision.use_local_prompts, vision.train_cls_projection) == (True, True, True)
    assert (text.num_context_tokens, text.context_position, text.class_specific_context) == (16, "end", True)


def test_classes_live_in_id2label():
    config = VitaClipConfig(id2label={0: "archery", 1: "yoga", 2: "tai chi"})
    assert config.num_labels == 3
    assert config.label2id == {"archery": 0, "yoga": 1, "tai chi": 2}
    assert VitaClipConfig(num_labels=5).num_labels == 5


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
    saving = {"_name_or_path": None, "transformers_version": None}  # written by transformers on saving
    assert loaded.to_dict() | saving == config.to_dict() | saving
    assert loaded.text_config.to_dict() == config.text_config.to_dict()
    assert loaded.vision_config.to_dict() == config.vision_config.to_dict()
    changed = AutoConfig.from_pretrained(tmp_path, vision_config={"num_frames": 16})
    assert changed.num_frames == 16 and changed.vision_config.num_global_prompts == 8
    assert changed.text_config.context_position == "middle"


@pytest.mark.parametrize("patch", [14, 32])
def test_stock_clip_configurations_keep_their_sizes(tmp_path, patch):
    stock = CLIPConfig(vision_config={"patch_size": patch, "hidden_size": 1024, "num_attention_heads": 16})
    stock.save_pretrained(tmp_path)
    sparse = json.loads((tmp_path / "config.json").read_text())
    if patch == 32:  # CLIP's own default: old files leave it out
        del sparse["vision_config"]["patch_size"]
        (tmp_path / "config.json").write_text(json.dumps(sparse))
    config = add_prompts(CLIPConfig.from_pretrained(tmp_path), {"vision_config": {"num_global_prompts": 3}})
    assert (config.vision_config.patch_size, config.vision_config.hidden_size) == (patch, 1024)
    assert (config.num_frames, config.vision_config.num_global_prompts) == (8, 3)
    assert type(config.vision_config) is VitaClipVisionConfig and type(config.text_config) is VitaClipTextConfig
    assert config.model_type == "vita_clip" and config.text_config.model_type == "vita_clip_text_model"


def test_stock_configurations_that_say_little(tmp_path):
    """Without `model_type` in its parts, or without parts, a stock file still means CLIP's own defaults."""
    for content in ({"vision_config": {"hidden_size": 768}}, {}):
        (tmp_path / "config.json").write_text(json.dumps({"model_type": "clip"} | content))
        assert add_prompts(CLIPConfig.from_pretrained(tmp_path)).vision_config.patch_size == 32


def test_legacy_configurations(tmp_path):
    """OpenAI's published L/14 says its sizes twice, under `*_config_dict` too."""
    sizes = {"hidden_size": 1024, "num_attention_heads": 16, "patch_size": 14}
    text = {"hidden_size": 768, "num_attention_heads": 12}
    (tmp_path / "config.json").write_text(
        json.dumps({"model_type": "clip", "vision_config_dict": sizes, "text_config_dict": text})
    )
    config = add_prompts(CLIPConfig.from_pretrained(tmp_path))
    assert (config.vision_config.patch_size, config.vision_config.hidden_size) == (14, 1024)
    assert (config.text_config.hidden_size, config.num_frames) == (768, 8)


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


@pytest.mark.parametrize(("name", "trainable"), [("vita-clip-b16", 38_884_353), ("vita-clip-b16-released", 30_158_849)])
def test_presets(name, trainable):
    """The paper's count: all parts, and without `cls_proj` (7,087,104) and half the context (1,638,400)."""
    config = VitaClipConfig(**json.loads((MODELS / f"{name}.json").read_text()), num_labels=400)
    model = VitaClipModel(config)
    model.freeze_backbone()
    assert model.num_parameters(only_trainable=True) == trainable
