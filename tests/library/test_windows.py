"""Frames in order, also from another process with a time limit: the same frames, and an end of decoders that hang."""

from pathlib import Path

import numpy as np
import pytest
import torch
from stamped_video import write_stamped
from tiny_encoders import save_tiny_encoder
from torch.nn.functional import normalize

from vitaclip_hf import VideoDecodingError, VideoReader, VitaClipVideoProcessor, load_checkpoint, open_video
from vitaclip_hf.cli.main import main
from vitaclip_hf.library.embedding import embed_videos
from vitaclip_hf.library.store import read_embeddings
from vitaclip_hf.library.timeline import VideoTimeline
from vitaclip_hf.library.windows import read_windows
from vitaclip_hf.model import decoding_process
from vitaclip_hf.model.decoding import PyAVVideo


DEMO = Path(__file__).parents[2] / "examples" / "demo"


@pytest.fixture
def hangs_after(monkeypatch):
    """A decoder that gives some frames and then no more, in the processes that are forked from now on."""

    def patched(count: int) -> None:
        original = PyAVVideo._whole_frames

        def hanging(self, container, stream):
            for number, frame in enumerate(original(self, container, stream)):
                while number == count:
                    pass
                yield frame

        monkeypatch.setattr(PyAVVideo, "_whole_frames", hanging)
        monkeypatch.setattr(decoding_process, "IDLE", [])

    return patched


@pytest.mark.parametrize("limits", [{}, {"max_seconds": 60}])
def test_frames_are_those_that_are_read(joined, limits):
    """In this process and in another one; a second time from the beginning."""
    video, expected = open_video(joined, **limits), open_video(joined).read(range(128)).permute(0, 2, 3, 1).numpy()
    for _ in range(2):
        for number, (frame, picture) in enumerate(zip(video.frames(), expected, strict=True)):
            times = pytest.approx((number / 16, (number + 1) / 16))
            assert (frame.number, (frame.time, frame.end)) == (number, times) and np.array_equal(frame.rgb, picture)


def test_two_iterations_of_one_process_do_not_mix(joined):
    timed = open_video(joined, max_seconds=60)
    expected = open_video(joined).read(range(4)).permute(0, 2, 3, 1).numpy()
    ahead, behind = timed.frames(), timed.frames()
    for frames, number in ((ahead, 0), (ahead, 1), (ahead, 2), (behind, 0), (ahead, 3), (behind, 1)):
        frame = next(frames)
        assert (frame.number, frame.time) == (number, number / 16) and np.array_equal(frame.rgb, expected[number])


def test_frames_before_damage_come_before_the_error(damaged, tmp_path):
    (tmp_path / "damaged.mp4").write_bytes(damaged)
    results = []
    for limits in ({}, {"max_seconds": 60}):
        numbers: list[int] = []
        with pytest.raises(VideoDecodingError) as error:
            for frame in open_video(tmp_path / "damaged.mp4", **limits).frames():
                numbers.append(frame.number)
        results.append((numbers, str(error.value)))
    assert results[0] == results[1] and results[0][0]


def test_commands_cut_off_a_decoder_that_hangs(checkpoint, joined, hangs_after, tmp_path, capsys):
    (tmp_path / "videos").mkdir()
    (tmp_path / "videos" / "clip.mp4").write_bytes(joined.read_bytes())
    hangs_after(40)
    model = str(DEMO / "checkpoint")
    limited = ["--model", model, "--max-seconds", "1", "--window", "1"]
    assert main(["timeline", str(joined), "--labels", "taxi,basketball", "--stride", "1", *limited]) == 1
    printed = capsys.readouterr()
    assert "not decoded after 1 s" in printed.err and "0:00:0" in printed.out  # those before are kept
    for command, place in (("index --index", tmp_path / "index"), ("embed --output", tmp_path / "vectors")):
        assert main([*command.split(), str(place), str(tmp_path / "videos"), *limited]) == 1
        assert "not decoded after 1 s" in capsys.readouterr().err
        [error] = read_embeddings(place)["error"].to_pylist()
        assert "not decoded after 1 s" in error


def test_a_picture_that_is_held_is_one_window(tmp_path):
    """Ten frames, the last but one for fifty minutes: windows are bounded by the frames, and leave out no time."""
    write_stamped(tmp_path / "held.mkv", [*range(0, 90, 10), 300_000])
    reader = VideoReader(VitaClipVideoProcessor(num_frames=2))
    windows = list(read_windows(reader, tmp_path / "held.mkv", 2.0, 1.0))
    assert len(windows) <= 5 and windows[0].start == 0 and windows[-1].end >= 3000
    assert all(b.start <= a.end for a, b in zip(windows, windows[1:], strict=False))
    assert max(window.end - window.start for window in windows) > 2990


@pytest.mark.parametrize("family", ["clip", "siglip2"])
@torch.no_grad()
def test_a_frame_is_encoded_once_however_many_windows_hold_it(family, joined, tmp_path):
    save_tiny_encoder(family, tmp_path / "model")
    checkpoint = load_checkpoint(tmp_path / "model")
    model, encoder, encoded = checkpoint.model, checkpoint.encoder(), []
    windows = list(read_windows(encoder.reader(), joined, 2.0, 0.5))
    by_window = normalize(encoder.video_features(torch.stack([window.pixels for window in windows])).mean(1), dim=-1)
    frames = {number for window in windows for number in window.frames}
    assert 3 * len(frames) < sum(len(window.frames) for window in windows)
    own = model.get_image_features
    model.get_image_features = lambda **inputs: encoded.append(len(inputs["pixel_values"])) or own(**inputs)
    embed_videos([str(joined)], tmp_path / "vectors", checkpoint, window=2.0, stride=0.5, batch_size=3)
    vectors = torch.tensor(read_embeddings(tmp_path / "vectors")["vector"].to_pylist())
    torch.testing.assert_close(vectors, by_window, atol=1e-5, rtol=0)
    assert sum(encoded) == len(frames)
    encoded.clear()
    timeline = VideoTimeline(encoder, ["a", "the taxi"], window=2.0, stride=0.5, batch_size=3)
    cosines = torch.tensor(np.stack([window.cosines for window in timeline.scores(joined)]))
    torch.testing.assert_close(cosines, by_window @ timeline.scorer.class_features.T, atol=1e-5, rtol=0)
    assert sum(encoded) == len(frames)
