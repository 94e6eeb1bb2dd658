import io
from pathlib import Path

import numpy as np
import pytest
import torch
from drawn_clips import smooth_pictures
from PIL import Image
from transformers import AutoProcessor, AutoVideoProcessor
from transformers.video_utils import VideoMetadata

from vitaclip_hf import VitaClipProcessor, VitaClipVideoProcessor, decode_video
from vitaclip_hf.data.video_writing import write_video


MEAN = torch.tensor([0.48145466, 0.4578275, 0.40821073])[:, None, None]
STD = torch.tensor([0.26862954, 0.26130258, 0.27577711])[:, None, None]


def small(**kwargs) -> VitaClipVideoProcessor:
    kwargs = {"size": {"shortest_edge": 32}, "crop_size": {"height": 32, "width": 32}, "num_frames": 4} | kwargs
    return VitaClipVideoProcessor(**kwargs)


def frames(count: int = 10, height: int = 48, width: int = 64) -> np.ndarray:
    """Smooth random pictures, each its own."""
    return smooth_pictures(count, height, width).permute(0, 2, 3, 1).numpy().copy()


def by_pil(picture: np.ndarray, side: int = 32, resample=Image.Resampling.BICUBIC) -> torch.Tensor:
    """The same steps with Pillow: shorter side, centre crop, CLIP's mean and standard deviation; `[3, side, side]`."""
    image = Image.fromarray(picture)
    scale = side / min(image.size)
    image = image.resize((int(image.width * scale), int(image.height * scale)), resample)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    pixels = torch.from_numpy(np.array(image.crop((left, top, left + side, top + side)))).permute(2, 0, 1)
    return (pixels / 255 - MEAN) / STD


@pytest.fixture(scope="module")
def clip_file(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("clips") / "clip.mp4"
    write_video(path, frames(10, 96, 128))
    return path


def test_pixels_against_pillow():
    video = frames()
    pixels = small()(video, return_tensors="pt")["pixel_values_videos"]
    assert pixels.shape == (1, 4, 3, 32, 32) and pixels.dtype == torch.float32
    for row, index in enumerate((1, 3, 6, 8)):  # centres of four segments of 2.5 frames
        assert (pixels[0, row] - by_pil(video[index])).abs().max() < 0.04  # DECODING: .03 for a level of rounding


def test_released_resizing_is_an_option_kept_with_the_checkpoint(tmp_path):
    """Bilinear without antialiasing, as the released code resizes."""
    video = np.random.default_rng(0).integers(0, 256, (4, 48, 64, 3), dtype=np.uint8)  # fine detail: noise
    small(resample=2, antialias=False).save_pretrained(tmp_path)
    loaded = AutoVideoProcessor.from_pretrained(tmp_path)
    pixels = loaded(video, return_tensors="pt")["pixel_values_videos"][0]
    floats = torch.from_numpy(video).permute(0, 3, 1, 2).float()
    resized = torch.nn.functional.interpolate(floats, size=(32, 42), mode="bilinear", align_corners=False)[..., 5:37]
    expected = (resized / 255 - MEAN) / STD
    assert (pixels - expected).abs().max() < 0.02
    assert (small()(video, return_tensors="pt")["pixel_values_videos"][0] - expected).abs().max() > 0.05


def test_every_kind_of_source_gives_the_same_pixels():
    video = frames()
    process = small()
    expected = process(video, return_tensors="pt")["pixel_values_videos"]
    images = [Image.fromarray(frame) for frame in video]
    channels_first = torch.from_numpy(video).permute(0, 3, 1, 2)
    alpha = np.concatenate([video, np.full_like(video[..., :1], 255)], -1)
    sources = [torch.from_numpy(video), channels_first, list(video), list(channels_first), images, tuple(images)]
    sources += [video.astype(np.int64), alpha, [video], video[None], [images]]
    for number, source in enumerate(sources):
        assert torch.equal(process(source, return_tensors="pt")["pixel_values_videos"], expected), number
    for rescale in (True, False):  # False says that the frames lie in 0 … 1 already, as these do
        floats = process(video.astype(np.float32) / 255, do_rescale=rescale, return_tensors="pt")
        assert (floats["pixel_values_videos"] - expected).abs().max() < 0.04  # resized without rounding


def test_grey_frames_become_rgb():
    grey = frames()[..., :1]
    expected = small()(np.repeat(grey, 3, -1), return_tensors="pt")["pixel_values_videos"]
    assert torch.equal(small()(grey, return_tensors="pt")["pixel_values_videos"], expected)
    assert torch.equal(small()(list(grey[..., 0]), return_tensors="pt")["pixel_values_videos"], expected)


def test_layout_that_the_shape_does_not_tell():
    """Three rows of three channels: the shape is ambiguous, the argument decides."""
    video = torch.randint(0, 256, (2, 3, 3, 3), dtype=torch.uint8)
    process = small(do_resize=False, do_center_crop=False, do_normalize=False, do_rescale=False, num_frames=2)
    last = process(video, input_data_format="channels_last", return_tensors="pt")["pixel_values_videos"]
    first = process(video, input_data_format="channels_first", return_tensors="pt")["pixel_values_videos"]
    assert torch.equal(first[0], video) and torch.equal(last[0], video.permute(0, 3, 1, 2))


def test_encoded_sources_give_the_same_pixels(clip_file):
    decoded, _ = decode_video(clip_file, range(10))
    process = small()
    expected = process(decoded, return_tensors="pt")["pixel_values_videos"]
    for source in (clip_file, io.BytesIO(clip_file.read_bytes()), decoded, list(decoded)):
        assert torch.equal(process(source, return_tensors="pt")["pixel_values_videos"], expected), type(source)
    mixed = process([clip_file, decoded], return_tensors="pt")["pixel_values_videos"]
    assert torch.equal(mixed, expected.expand(2, -1, -1, -1, -1))
    named = process(clip_file, decoder="pyav", return_metadata=True, return_tensors="pt")
    assert torch.equal(named["pixel_values_videos"], expected)
    assert named["video_metadata"][0].video_backend == "pyav"
    assert named["video_metadata"][0].frames_indices == [1, 3, 6, 8]


def test_views_are_rows_next_to_each_other():
    video = frames(20, 40, 80)
    process = small(sampling="dense", frame_stride=2, do_normalize=False, do_rescale=False)
    views = process([video, video[::-1].copy()], num_views=3, num_spatial_views=3, return_tensors="pt")
    pixels = views["pixel_values_videos"]
    assert pixels.shape == (2, 3 * 3, 4, 3, 32, 32)
    for view, start in enumerate((0, 6, 13)):  # slide 13: round(6.5) is 6 in Python, as in the released code
        clip = video[start : start + 7 : 2]
        resized = torch.stack([torch.from_numpy(np.array(Image.fromarray(f).resize((64, 32), 3))) for f in clip])
        for crop, left in enumerate((0, 16, 32)):
            expected = resized[:, :, left : left + 32].permute(0, 3, 1, 2).float()
            assert (pixels[0, 3 * view + crop] - expected).abs().max() <= 2


def test_tall_frames_are_cropped_along_their_height():
    video = frames(4, 80, 40)
    process = small(do_normalize=False, do_rescale=False, do_resize=False, num_spatial_views=3)
    pixels = process(video, return_tensors="pt")["pixel_values_videos"]
    for row, top in enumerate((0, 24, 48)):
        assert torch.equal(pixels[0, row], torch.from_numpy(video[:, top : top + 32, 4:36]).permute(0, 3, 1, 2).float())


def test_all_frames_without_sampling():
    video = frames(7)
    assert small()(video, do_sample_frames=False, return_tensors="pt")["pixel_values_videos"].shape[1] == 7
    with pytest.raises(ValueError, match="differ in shape"):
        small()([video, video[:5]], do_sample_frames=False, return_tensors="pt")
    rows = small()([video, video[:5]], do_sample_frames=False)["pixel_values_videos"]
    assert [len(row) for row in rows] == [7, 5]
    rows = small(num_views=2)([video, 255 - video], do_sample_frames=False, return_tensors="pt")["pixel_values_videos"]
    assert rows.shape[:3] == (2, 2, 7) and rows[0, 0].equal(rows[0, 1]) and not rows[0].equal(rows[1])


def test_each_video_of_a_batch_draws_its_own_frames():
    batch = small(sampling="segment_random")([frames(80)] * 3, seed=5, return_metadata=True)
    drawn = [tuple(metadata.frames_indices) for metadata in batch["video_metadata"]]
    assert len(set(drawn)) == 3
    alone = small(sampling="segment_random")(frames(80), seed=7, return_metadata=True)["video_metadata"][0]
    assert tuple(alone.frames_indices) == drawn[2]


def test_metadata_of_arrays():
    batch = small()([frames(8), frames(9)], video_metadata=[{"fps": 4.0}, {"fps": 25.0}], return_metadata=True)
    found = [(m.fps, m.total_num_frames, m.width, m.height) for m in batch["video_metadata"]]
    assert found == [(4.0, 8, 64, 48), (25.0, 9, 64, 48)]
    for wrong in ([], [{"fps": 4.0}]):
        with pytest.raises(ValueError, match=f"describes {len(wrong)} videos, but there are 2"):
            small()([frames(8), frames(9)], video_metadata=wrong)


@pytest.mark.parametrize(
    ("video", "error", "message"),
    [
        (3, TypeError, "Expected a video or a list of videos.*got int"),
        ([], TypeError, "got list of nothing"),
        ([[]], TypeError, "list of nothing"),
        (np.zeros((4, 4)), TypeError, r"array of shape \[4, 4\]"),
        ([np.zeros((8, 8, 3), np.uint8), "clip.mp4"], TypeError, "ndarray, str"),
        (np.zeros((0, 8, 8, 3), np.uint8), ValueError, "at least one frame"),
        (np.zeros((2, 8, 8, 5), np.uint8), ValueError, "1, 3 or 4 channels"),
        (np.full((2, 8, 8, 3), 2.0), ValueError, "must lie in 0 … 1, got 2 … 2"),
        (np.full((2, 8, 8, 3), np.nan), ValueError, "must lie in 0 … 1"),
        (np.linspace(-1, 1, 384).reshape(2, 8, 8, 3), ValueError, "must lie in 0 … 1, got -1 … 1"),
        (np.zeros((2, 8, 8, 3), bool), TypeError, "bool"),
        (np.zeros((2, 8, 8, 3), np.complex64), TypeError, "complex64"),
        (np.full((2, 8, 8, 3), 65535, np.uint16), ValueError, "must lie in 0 … 255, got 65535 … 65535"),
        ([np.zeros((8, 8, 3), np.uint8), np.zeros((8, 9, 3), np.uint8)], ValueError, "one size, got 8 x 8, 8 x 9"),
    ],
)
def test_bad_videos(video, error, message):
    with pytest.raises(error, match=message):
        small()(video, return_tensors="pt")


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"num_spatial_views": 2}, ValueError, "1 .centre. or 3, got 2"),
        ({"fps": 4}, ValueError, "`fps` is not a rule"),
        ({"num_frame": 3}, TypeError, "num_frame"),
    ],
)
def test_bad_choices(arguments, error, message, clip_file):
    with pytest.raises(error, match=message):
        small()(clip_file, return_tensors="pt", **arguments)


def test_round_trip_of_the_processors(tokenizer, tmp_path):
    processor = VitaClipProcessor(
        small(sampling="dense", frame_stride=3, num_views=2, antialias=False, decoder="pyav"), tokenizer
    )
    with pytest.raises(ValueError, match="takes `text` and `videos`"):
        processor(images=frames(1)[0])
    processor.save_pretrained(tmp_path)
    loaded, video_processor = AutoProcessor.from_pretrained(tmp_path), AutoVideoProcessor.from_pretrained(tmp_path)
    assert type(loaded) is VitaClipProcessor and type(video_processor) is VitaClipVideoProcessor
    assert loaded.video_processor.to_dict() == processor.video_processor.to_dict() == video_processor.to_dict()
    loaded.save_pretrained(tmp_path / "again")
    for name in ("processor_config.json", "tokenizer.json"):
        assert (tmp_path / name).read_bytes() == (tmp_path / "again" / name).read_bytes()
    video, texts = frames(30), ["riding a bike", "tai chi"]
    ours, theirs = (p(videos=video, text=texts, return_tensors="pt") for p in (processor, loaded))
    assert set(ours) == {"pixel_values_videos", "input_ids", "attention_mask"}
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert ours["pixel_values_videos"].shape == (1, 2, 4, 3, 32, 32)
    assert ours["input_ids"].tolist() == tokenizer(texts, padding=True).input_ids


def test_batches_nested_by_sample():
    one, two = frames(9), frames(5)
    process = small()
    flat = process([one, two], return_tensors="pt")["pixel_values_videos"]
    for nested in ([[one], [two]], [[one, two]], [(one,), two]):
        assert torch.equal(process(nested, return_tensors="pt")["pixel_values_videos"], flat)
    about = process([[one], [two]], video_metadata=[[{"fps": 10}], [{"fps": 20}]], return_metadata=True)
    assert [entry.fps for entry in about["video_metadata"]] == [10, 20]


@pytest.mark.parametrize(
    "settings", [{}, {"sampling": "dense", "frame_stride": 2}, {"num_views": 3}, {"num_frames": 2, "num_views": 2}]
)
def test_sample_frames_are_those_that_are_read(settings):
    process = small()
    about = process(frames(30), return_metadata=True, **settings)["video_metadata"][0]
    assert process.sample_frames(VideoMetadata(30), **settings).tolist() == about.frames_indices
    with pytest.raises(ValueError, match="`fps` is not a rule"):
        process.sample_frames(VideoMetadata(30), fps=2)
