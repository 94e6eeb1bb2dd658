"""Files whose end is missing: an error, or with `on_damage="skip"` their whole frames; never a wrong one."""

import functools
import io
import struct
import tempfile
from pathlib import Path

import av
import pytest
from drawn_clips import NUM_FRAMES, numbers, write

from vitaclip_hf import VideoDecodingError, decode_video, open_video


SHARES = (0.55, 0.75, 0.9, 0.999)
H264, MPEG = {"g": 12, "bf": 2}, {"g": 12, "b": "900k"}
CLIPS = {
    "mpeg4.avi": MPEG | {"codec": "mpeg4", "bf": 2},
    "h264.mkv": H264,
    "vp9.webm": MPEG | {"codec": "libvpx-vp9", "deadline": "realtime", "cpu-used": 8},
    "h264.ts": H264,
    "h264.m2ts": H264,
    "h264.flv": H264,
    "fragments.mp4": H264 | {"movflags": "frag_keyframe+empty_moov"},
    "header_first.mp4": H264 | {"movflags": "faststart"},
}


@functools.cache
def clip(name: str) -> bytes:
    if CLIPS[name].get("codec", "libx264") not in av.codecs_available:
        pytest.skip(f"PyAV was built without {CLIPS[name]['codec']}")
    with tempfile.TemporaryDirectory() as scratch:
        return write(Path(scratch, name), **CLIPS[name]).read_bytes()


@pytest.mark.parametrize("name", CLIPS)
def test_a_missing_end_is_an_error(name):
    data = clip(name)
    for share in SHARES:
        size = int(len(data) * share)
        if name.endswith("ts"):  # between two packets, nothing says that more should follow
            size -= size % (192 if name.endswith("m2ts") else 188) == 0
        with pytest.raises(VideoDecodingError, match=rf"bytes \({size} B\)"):
            decode_video(data[:size], [0])


@pytest.mark.parametrize("name", [name for name in CLIPS if name != "fragments.mp4"])
def test_the_whole_frames_before_the_cut(name):
    data = clip(name)
    assert open_video(data, on_damage="skip").metadata.total_num_frames == NUM_FRAMES
    for share in SHARES:
        video = open_video(data[: int(len(data) * share)], on_damage="skip")
        count = video.metadata.total_num_frames
        found = numbers(video.read(range(count)))
        # The last ones may be shown before one that is missing: B-frames, or what they need.
        assert found[: count - 4] == list(range(count - 4)) and found == sorted(set(found))
        assert max(found) - count < 4
        if share > 0.99:
            assert count >= NUM_FRAMES - 2
        assert [frame.number for frame in video.frames()] == list(range(count))


def test_frames_that_are_decoded_before_the_damage_are_whole():
    """A cut after whole packets of `I P B B P B B`: all of them can be decoded."""
    data = clip("header_first.mp4")
    with av.open(io.BytesIO(data)) as container:
        entries = [(entry.pos, entry.size) for entry in container.streams.video[0].index_entries]
    for packets in (2, 20, 30, 41):
        position, size = entries[packets]
        video = open_video(data[: position + size // 2], on_damage="skip")
        assert video.metadata.total_num_frames == packets
        assert video.metadata.frames_left_out == NUM_FRAMES - packets


def test_a_first_frame_that_comes_at_the_end_of_a_file_that_begins_with_sound(tmp_path):
    """Two frames, which the decoder gives only when it is told that no more follow."""
    path = write(tmp_path / "clip.mp4", count=2, audio=True, bf=3, g=250)
    assert numbers(decode_video(path, [0, 1])[0]) == [0, 1]


@pytest.mark.parametrize("name", ["header_first.mp4", "fragments.mp4"])
def test_a_table_of_more_frames_than_bytes(name, monkeypatch):
    """A box that gives all frames one size needs 20 bytes, whatever their number is; FFmpeg takes 40 for each."""
    monkeypatch.setattr("vitaclip_hf.model.decoding.opened_container", None)  # it is not opened
    data, count = bytearray(clip(name)), 80_000_000
    # A run without fields of each frame; or a size of one byte each.
    place = data.index(b"trun") + 4 if b"trun" in data else data.rindex(b"stsz") + 8
    data[place : place + 8] = struct.pack(">II", 1, count)
    with pytest.raises(VideoDecodingError, match=f"{len(data)} bytes for {count}"):
        open_video(bytes(data), on_damage="skip")


def test_what_is_appended_is_no_missing_end():
    for name in ("h264.ts", "h264.flv", "h264.mkv", "mpeg4.avi", "header_first.mp4"):
        data = clip(name)
        assert numbers(decode_video(data + bytes(100), [0, 40])[0]) == [0, 40], name
