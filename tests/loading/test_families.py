"""Every family of dual encoders scores as its own documented call does, on the frames that our reader chose."""

import fractions
import functools
import shutil

import pytest
import torch
from attack.hostile_folders import set_field
from safetensors.torch import load_file
from tiny_encoders import FAMILIES, SIZE, save_tiny_encoder
from torch.nn.functional import normalize
from transformers import AutoConfig, AutoModel, AutoProcessor, pipeline

import vitaclip_hf  # noqa: F401  registers the task
from vitaclip_hf import load_checkpoint
from vitaclip_hf.loading.guards import CheckpointError
from vitaclip_hf.model.scorer import Scorer


TEXTS = ["a taxi", "the blue bell moving left in a video", "spinning"]
TEMPERATURE = {"videoprism": 0.01}
SIGMOID = ("siglip", "siglip2", "pe_video")
PADDED = ("siglip", "siglip2", "tipsv2", "align", "videoprism")


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("encoders")
    for family in FAMILIES:
        save_tiny_encoder(family, root / family)
    return root


@pytest.fixture(scope="module")
def encoder_of(folders):
    """Function from a family to its encoder, loaded once."""
    return functools.cache(lambda family: load_checkpoint(folders / family).encoder())


@pytest.fixture(scope="module")
def video() -> torch.Tensor:
    """Twelve frames of a gradient that moves, wider than high."""
    rows, columns = torch.meshgrid(torch.arange(40), torch.arange(60), indexing="ij")
    frames = [torch.stack([rows * 5, columns * 4, (columns + 9 * t) % 256]) for t in range(12)]
    return torch.stack(frames).to(torch.uint8)


def own_logits(model, processor, family: str, frames: torch.Tensor) -> torch.Tensor:
    """Logits `(num_texts,)` of one clip by the model's own calls, as transformers documents them."""
    padding = {"padding": "max_length", "max_length": 16} if family in PADDED else {"padding": True}
    if family == "align":
        padding["max_length"] = 64
    texts = processor.tokenizer(TEXTS, return_tensors="pt", **padding)
    images = [frame.permute(1, 2, 0).numpy() for frame in frames]
    with torch.no_grad():
        if family == "xclip":
            pixels = processor.image_processor(images, return_tensors="pt")
            return model(**texts, **pixels).logits_per_video[0]
        if family == "pe_video":
            pixels = processor.video_processor([frames], do_sample_frames=False, return_tensors="pt")
            return model(**texts, **pixels).logits_video_text[0]
        if family == "videoprism":
            pixels = processor.video_processor([frames], do_sample_frames=False, return_tensors="pt")
            outputs = model(**texts, **pixels)
            return outputs.video_embeds[0] @ outputs.text_embeds.T / TEMPERATURE[family]
        pixels = processor.image_processor(images, return_tensors="pt")
        if len(frames) == 1:
            return model(**texts, **pixels).logits_per_image[0]
        video = normalize(model.get_image_features(**pixels).pooler_output.mean(0), dim=-1)
        cosines = normalize(model.get_text_features(**texts).pooler_output, dim=-1) @ video
        if hasattr(model, "temperature"):
            return cosines / model.temperature
        return cosines * model.logit_scale.exp() + getattr(model, "logit_bias", 0.0)


@pytest.mark.parametrize("family", FAMILIES)
def test_scores_are_those_of_the_models_own_call(folders, encoder_of, video, family):
    model, processor = (auto.from_pretrained(folders / family) for auto in (AutoModel, AutoProcessor))
    encoder = encoder_of(family)
    scorer = Scorer(encoder, TEXTS)
    for num_frames in (None,) if family in ("xclip", "videoprism") else (1, 4):
        pixels, metadata = encoder.reader(num_frames=num_frames).read(video)
        expected = own_logits(model.eval(), processor, family, video[metadata.frames_indices])
        logits, cosines = encoder.compare(encoder.video_features(pixels[None]), scorer.class_features)
        torch.testing.assert_close(logits[0, 0], expected, atol=2e-5, rtol=1e-5)
        scores = expected.sigmoid() if family in SIGMOID else expected.softmax(0)
        torch.testing.assert_close(scorer.score(pixels[None]).scores[0], scores, atol=1e-5, rtol=1e-5)
        assert cosines.abs().max() <= 1.00001


@pytest.mark.parametrize("family", FAMILIES)
def test_pipeline_by_name_with_views_and_details(folders, encoder_of, video, family):
    encoder, task = encoder_of(family), "zero-shot-video-classification"
    classifier = pipeline(task, model=str(folders / family))
    own = encoder.video_processor
    assert pipeline(task, model=str(folders / family), video_processor=own).video_processor is own
    assert own([video, video], num_views=2, return_tensors="pt")["pixel_values_videos"].shape[:2] == (2, 2)
    arguments = {"candidate_labels": TEXTS, "num_views": 2, "num_spatial_views": 3}
    answer = classifier(video, return_details=True, **arguments)
    pixels, _ = encoder.reader(num_views=2, num_spatial_views=3).read(video)
    assert pixels.shape[0] == 6 and not pixels[0].equal(pixels[2])  # left and right
    expected = Scorer(encoder, TEXTS).score(pixels[None])
    by_label = {row["label"]: row for row in answer["scores"]}
    for index, label in enumerate(TEXTS):
        assert abs(by_label[label]["score"] - expected.scores[0, index]) < 1e-6
        assert abs(by_label[label]["cosine"] - expected.cosines[0, index]) < 1e-5
    assert answer["activation"] == ("sigmoid" if family in SIGMOID else "softmax")
    with pytest.raises(ValueError, match="blend"):
        classifier(video, blend=0.5, **arguments)


@pytest.mark.parametrize("family", SIGMOID)
def test_independent_labels_need_no_threshold(folders, video, family):
    classifier = load_checkpoint(folders / family).classifier(return_details=True)
    best = classifier(video, candidate_labels=TEXTS)
    assert best["answer"] == ("something else" if best["scores"][0]["score"] < 0.5 else best["scores"][0]["label"])
    alone = classifier(video, candidate_labels=TEXTS[:1])["scores"][0]
    assert alone["score"] == pytest.approx({row["label"]: row for row in best["scores"]}[TEXTS[0]]["score"], abs=1e-6)
    assert classifier(video, candidate_labels=TEXTS, min_score=0.999)["answer"] == "something else"
    assert classifier(video, candidate_labels=TEXTS, min_score=0)["answer"] == best["scores"][0]["label"]
    next(bias for name, bias in classifier.model.named_parameters() if name.endswith("logit_bias")).data -= 100
    assert classifier(video, candidate_labels=TEXTS)["reason"].endswith("below 0.5")


@pytest.mark.parametrize("family", ["clip", "siglip2", "xclip"])
def test_saved_by_the_pipeline_and_loaded_again(folders, video, family, tmp_path):
    classifier = load_checkpoint(folders / family).classifier(candidate_labels=TEXTS)
    classifier.save_pretrained(tmp_path)
    again = pipeline("zero-shot-video-classification", model=str(tmp_path), candidate_labels=TEXTS)
    assert again(video) == classifier(video)


def test_labels_of_a_model_in_half_precision_do_not_tie(folders, video):
    encoder = load_checkpoint(folders / "xclip", dtype="bfloat16").encoder()
    features = encoder.video_features(encoder.reader().read(video)[0][None])
    width = encoder.text_features(["a"]).shape[-1]
    texts = torch.randn(400, width, generator=torch.Generator().manual_seed(0))
    cosines = encoder.compare(features, texts.to(torch.bfloat16))[1]
    assert len(cosines.flatten().unique()) > 390


def test_embeddings_for_search_are_normalised_and_plain(folders, encoder_of, video):
    for family in FAMILIES:
        encoder = encoder_of(family)
        pixels, _ = encoder.reader().read(video)
        videos = encoder.embeds(encoder.video_features(pixels[None]))
        texts = encoder.embeds(encoder.text_features(TEXTS))
        assert videos.shape == (1, 1, encoder.embed_dim) and texts.shape == (3, encoder.embed_dim)
        for embeds in (videos, texts):
            torch.testing.assert_close(embeds.norm(dim=-1), torch.ones(embeds.shape[:-1]), atol=1e-5, rtol=0)
    model = AutoModel.from_pretrained(folders / "xclip").eval()
    encoder = encoder_of("xclip")
    pixels, _ = encoder.reader().read(video)
    with torch.no_grad():
        plain = model.get_video_features(pixel_values=pixels).pooler_output
    torch.testing.assert_close(encoder.embeds(encoder.video_features(pixels[None]))[0], normalize(plain, dim=-1))
    assert load_checkpoint(folders, subfolder="clip").kind == "encoder"


def test_other_numbers_of_frames_and_texts_than_the_model_takes(encoder_of, video):
    with pytest.raises(ValueError, match="takes 4 frames, got 8"):
        encoder_of("xclip").reader(num_frames=8).read(video)
    with pytest.raises(ValueError, match="16 positions"):
        encoder_of("siglip").text_features(["a taxi " * 20])


def test_other_models_are_refused_by_name(tmp_path, folders):
    for family, message in (("bert", "'bert'"), ("blip", "'blip'"), ("vit", "'vit'")):
        AutoConfig.for_model(family).save_pretrained(tmp_path / family)
        with pytest.raises(CheckpointError, match=message) as error:
            load_checkpoint(tmp_path / family)
        assert "siglip" in str(error.value) and "\n" not in str(error.value)
    with pytest.raises(CheckpointError, match="'clip'"):
        load_checkpoint(folders / "clip", model_class=vitaclip_hf.VitaClipModel)
    AutoModel.from_config(AutoConfig.for_model("bert", **SIZE)).save_pretrained(tmp_path / "bert")
    with pytest.raises(ValueError, match="'bert'"):
        pipeline("zero-shot-video-classification", model=str(tmp_path / "bert"))


def test_unlisted_families_are_tried_with_a_warning(folders, video, monkeypatch):
    from vitaclip_hf.model.encoder import VideoEncoder

    expected = load_checkpoint(folders / "clip").classifier()(video, candidate_labels=TEXTS)
    monkeypatch.delitem(VideoEncoder.families, "clip")
    messages = []
    monkeypatch.setattr("vitaclip_hf.loading.families.logger.warning", messages.append)
    assert load_checkpoint(folders / "clip").classifier()(video, candidate_labels=TEXTS) == expected
    assert "'clip'" in messages[0] and "frames" in messages[0]


def test_a_checkpoint_without_safetensors_gives_tensors_alone(folders, video, tmp_path):
    folder = shutil.copytree(folders / "clip", tmp_path / "clip")
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    torch.save(weights, folder / "pytorch_model.bin")
    expected = load_checkpoint(folders / "clip").classifier()(video, candidate_labels=TEXTS)
    assert load_checkpoint(folder).classifier()(video, candidate_labels=TEXTS) == expected
    assert load_checkpoint(folder, accept_clip=True).kind == "clip"
    torch.save({"logit_scale": fractions.Fraction(1, 2)}, folder / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match="clip"):
        load_checkpoint(folder)


SIZES = ("num_hidden_layers", "intermediate_size")
HUGE = r"config\.json asks for more|config\.json asks for [\d,]+ parameters"


@pytest.mark.parametrize(
    ("family", "file", "path", "value", "message"),
    [
        *(("siglip", "config.json", ("vision_config", name), 10**9, HUGE) for name in SIZES),
        ("clip", "config.json", ("num_labels",), 10**12, "num_labels"),
        ("clip", "config.json", ("quantization_config",), {"quant_method": "fp8"}, "saved in a quantized form"),
        ("clip", "processor_config.json", ("image_processor", "size", "shortest_edge"), 200_000, "video processor"),
    ],
)
def test_configurations_that_are_not_what_is_stored(folders, tmp_path, family, file, path, value, message):
    folder = shutil.copytree(folders / family, tmp_path / family)
    set_field(file, path, value)(folder)
    with pytest.raises(CheckpointError, match=message):
        load_checkpoint(folder)
