"""Frames found by the table of frames are those of decoding from the beginning, also of damaged and rewritten files."""

import io
import random

import av
import numpy as np
import pytest
from attack.mutations import damaged
from drawn_clips import CODECS_WANTED, RECIPES, numbers, remux, write

from vitaclip_hf import VideoDecodingError, decode_video, open_video
from vitaclip_hf.model import decoding
from vitaclip_hf.model.frame_table import FrameTable


COUNT = 60
KINDS = ["sparse_keyframes.mp4", "dense_keyframes.mp4", "open_gop.mp4", "open_gop_hevc.mp4", "vp9.webm", "av1.mp4"]
FORMATS = ["matroska", "mpegts", "mov", "flv", "fragmented"]


@pytest.fixture(scope="module")
def clips(tmp_path_factory) -> dict[str, bytes]:
    """Clips of several keyframes by name, and the same packets in other containers."""
    folder = tmp_path_factory.mktemp("clips")
    written = {}
    for kind in KINDS:
        if CODECS_WANTED[kind] in av.codecs_available:
            recipe = dict(RECIPES[kind])
            if distance := {"sparse_keyframes.mp4": 20, "dense_keyframes.mp4": 6}.get(kind):
                recipe |= {"g": distance, "x264-params": "scenecut=0"}
            written[kind] = write(folder / kind, **(recipe | {"count": COUNT})).read_bytes()
    for kind in ("dense_keyframes.mp4", "open_gop.mp4", "open_gop_hevc.mp4"):
        for container in FORMATS if kind in written else ():
            written[f"{kind} as {container}"] = rewritten(written[kind], container)
    return written


def rewritten(data: bytes, container: str) -> bytes:
    """The packets of the video in another container."""
    target = io.BytesIO()
    options = {"movflags": "frag_keyframe+empty_moov"} if container == "fragmented" else {}
    name = "mp4" if container == "fragmented" else container
    remux(io.BytesIO(data), target, format=name, options=options)
    return target.getvalue()


def test_every_frame_alone_and_together(clips):
    for name, data in clips.items():
        whole = decode_video(data, range(COUNT), verify="full")[0]
        assert numbers(whole) == list(range(COUNT)), name
        video = open_video(data)
        for number in range(0, COUNT, 5):  # all places within groups of 6 and of 12
            assert np.array_equal(video.read([number]).permute(0, 2, 3, 1), whole[number : number + 1]), (name, number)
        for step in (5, 11, 23):
            assert np.array_equal(video.read(range(0, COUNT, step)).permute(0, 2, 3, 1), whole[::step]), (name, step)
        assert video._table.trusted == (not any(word in name for word in ("mpegts", "flv"))), name
        assert video.metadata.total_num_frames == COUNT


def test_what_is_not_needed_is_not_decoded(clips, monkeypatch):
    """Ten frames of a group of pictures are decoded for one of them, and not all of the file."""
    monkeypatch.setattr(decoding.PyAVVideo, "frames", None)  # decoding through would fail
    data = clips["dense_keyframes.mp4"]
    video = open_video(data)
    table = video._table
    assert list(table.keyframes) == list(range(0, COUNT, 6)) and table.num_frames == COUNT
    assert numbers(video.read([57])) == [57]


@pytest.mark.parametrize(("threads", "on_damage"), [(False, "skip"), (True, "error")])
def test_threads_give_the_same_frames_and_whole_files_have_none_left_out(clips, monkeypatch, threads, on_damage):
    monkeypatch.setattr(decoding, "MIN_PIXELS_FOR_THREADS", 0 if threads else 1 << 60)
    for data in clips.values():
        frames, metadata = decode_video(data, [3, 17, 18, 41, 59], on_damage=on_damage)
        assert numbers(frames) == [3, 17, 18, 41, 59] and metadata.frames_left_out == 0


def test_a_table_with_repeated_rows_or_no_keyframe_at_its_beginning_is_not_trusted():
    rows = [(10 * n, 9, n, n % 4 == 0, False) for n in range(12)]
    assert FrameTable.of(rows, True).trusted and not FrameTable.of(rows, False).trusted
    assert FrameTable.of([rows[0], *rows[:0:-1]], True).trusted  # out of order is fine
    for bad in ([*rows[:3], (30, 9, 2, False, False), *rows[4:]], [*rows, rows[3]], rows[1:], []):
        assert not FrameTable.of(bad, True).trusted


def test_a_table_that_lies_is_noticed(clips):
    """Wrong rows are found while reading, and the frames are those of decoding through."""
    data = clips["dense_keyframes.mp4"]
    for change in ("positions", "sizes"):
        video = open_video(data)
        getattr(video._table, change)[48] += 1
        assert numbers(video.read([50])) == [50]
        assert not video._table.trusted
    video = open_video(data)
    video._table.shown_before[:-1] -= 1  # so that one frame more than there is would be decoded
    assert numbers(video.read([COUNT - 1]).permute(0, 2, 3, 1).numpy()) == [COUNT - 1]
    video = open_video(data)
    video._table.keyframes[8] = 50  # no keyframe
    assert numbers(video.read([52])) == [52]


def test_damaged_files_give_the_frames_of_decoding_through(clips):
    """HEVC and VP9 decoders hide damage, so that two ways to decode it may show two damaged pictures; not here."""
    rng, equal = random.Random(0), 0
    names = [name for name in clips if "hevc" not in name and "vp9" not in name]
    for number in range(150):
        data, wanted = damaged(clips[rng.choice(names)], str(number))[0], sorted(rng.sample(range(COUNT), 3))
        try:
            expected, about = decode_video(data, wanted, verify="full")
        except (VideoDecodingError, IndexError):
            expected = None
        try:
            frames, metadata = decode_video(data, wanted)
        except (VideoDecodingError, IndexError):
            assert expected is None
            continue
        if expected is not None:
            assert np.array_equal(frames, expected) and metadata.total_num_frames == about.total_num_frames
            equal += 1
    assert equal > 20


# Damaged frames left out


def from_packet(data: bytes, first: int) -> bytes:
    """An MPEG-TS recording that begins with one packet of the video: its tables, then what follows."""
    return data[: 3 * 188] + data[int(open_video(data)._table.positions[first]) :]


def test_a_file_that_begins_between_keyframes(clips):
    data = from_packet(clips["dense_keyframes.mp4 as mpegts"], 8)  # the next keyframe is frame 12
    for rule in ("error", "skip"):  # the decoder reports no damage, it waits for the keyframe
        frames, metadata = decode_video(data, [0, 5, 47], on_damage=rule)
        assert numbers(frames) == [12, 17, 59]
        assert (metadata.total_num_frames, metadata.frames_left_out) == (48, 4)
    data = from_packet(clips["dense_keyframes.mp4 as mpegts"], 55)  # no keyframe follows
    for rule in ("error", "skip"):
        with pytest.raises(VideoDecodingError):
            decode_video(data, [0], on_damage=rule)


def test_frames_from_damage_to_the_next_keyframe_are_left_out(clips):
    data = bytearray(clips["dense_keyframes.mp4"])
    table = open_video(bytes(data))._table
    start = int(table.positions[19]) + 20
    data[start : start + 200] = b"\xff" * 200
    with pytest.raises(VideoDecodingError, match="--on-damage skip"):
        decode_video(bytes(data), range(COUNT))
    video = open_video(bytes(data), on_damage="skip")
    left = video.metadata.frames_left_out
    assert video.metadata.total_num_frames == COUNT - left and 1 <= left <= 18
    shown = numbers(video.read(range(COUNT - left)))
    assert shown == sorted(shown) and shown[:16] == list(range(16)) and shown[-24:] == list(range(36, 60))


def test_an_avi_recording_that_states_no_length(tmp_path):
    live = bytearray(write(tmp_path / "clip.avi", codec="mpeg4", count=20, b="900k").read_bytes())
    live[4:8] = bytes(4)
    assert decode_video(bytes(live), [19])[1].total_num_frames == 20
