"""Moments cut out as files: the frames that a reader of the whole video has there, copied or encoded anew."""

from fractions import Fraction
from unittest.mock import Mock

import av
import numpy as np
import pytest
from drawn_clips import numbers, write
from stamped_video import write_stamped

from vitaclip_hf import open_video
from vitaclip_hf.library import clips
from vitaclip_hf.library.clips import write_clips
from vitaclip_hf.model.read_options import ReadOptions


# At 10 pictures a second with a keyframe every 1.2 s: at one, near one, between two, at the end, and through to it.
MOMENTS = [(1.2, 2.0), (1.25, 2.4), (1.6, 3.0), (3.75, 9.0)]
OPEN = {"x264-params": "open-gop=1:keyint=12:min-keyint=12:scenecut=0:bframes=3:b-adapt=0"}
KINDS = {
    "a.mp4": ({"bf": 2, "audio": True}, "copied copied re-encoded re-encoded"),
    "open.mov": (OPEN, "copied copied re-encoded re-encoded"),
    "b.mkv": ({"bf": 2}, "copied copied re-encoded re-encoded"),
    "open.mkv": (OPEN, "copied copied re-encoded re-encoded"),
    "turned.mp4": ({"rotation": (90, False)}, "copied copied re-encoded re-encoded"),
    "both.mp4": ({"rotation": (90, True)}, "copied copied re-encoded re-encoded"),
    "mirror.mp4": ({"rotation": (0, True)}, "copied copied re-encoded re-encoded"),
    "av1.m4v": ({"codec": "libsvtav1", "preset": 12}, "copied copied re-encoded re-encoded"),
    "phone.3gp": ({"codec": "h263", "size": (96, 128), "b": "900k"}, "copied copied re-encoded re-encoded"),
    "sound.ts": ({"bf": 2}, "re-encoded " * 4),
    "old.avi": ({"codec": "mpeg4", "b": "900k"}, "re-encoded " * 4),
}


@pytest.mark.parametrize("name", KINDS)
def test_clips_hold_the_frames_of_their_moments(name, tmp_path):
    options, ways = KINDS[name]
    path = write(tmp_path / name.replace("m4v", "mp4"), rate=Fraction(10), **{"g": 12, "sc_threshold": 0} | options)
    path = path.rename(tmp_path / name)
    video = open_video(path)
    whole = video.read(range(video.metadata.total_num_frames)).numpy().astype(int)
    moments = [(str(path), start, end, 'a/b "c"') for start, end in MOMENTS]
    written = list(write_clips(tmp_path / "clips", moments, ReadOptions(max_seconds=60)))  # as a processor may say

    assert [how for _, how in written] == ways.split()
    assert written[0][0].name == f"001 a b c{'.mkv' if name[-3:] in ('avi', '.ts') else path.suffix}"
    for (clip, how), (start, end) in zip(written, MOMENTS, strict=True):
        frames = open_video(clip).read(range(open_video(clip).metadata.total_num_frames)).numpy().astype(int)
        first = round((1.2 if how == "copied" else start) * 10 + 0.49)
        expected = whole[first : round(min(end, 4.8) * 10 + 0.49)]
        common = min(len(frames), len(expected))  # a copy ends where frames do not depend on those after it
        assert len(frames) == len(expected) or (how == "copied" and abs(len(frames) - len(expected)) <= 3)
        assert np.abs(frames[:common] - expected[:common]).mean((1, 2, 3)).max() < 6
    if options.get("audio"):
        with av.open(str(written[0][0])) as container:
            sound = container.streams.audio[0]
            assert float(sound.duration * sound.time_base) == pytest.approx(0.72, abs=0.13)


def test_clips_follow_the_clock_of_the_reader(tmp_path):
    """Rare keyframes, stamps that begin anew or leave out a day, no stamps, and no keyframes."""
    rare = write(tmp_path / "rare.ts", rate=Fraction(2), g=250)  # one keyframe in 24 s
    anew = tmp_path / "anew.ts"
    anew.write_bytes(write(tmp_path / "one.ts", rate=Fraction(2), g=6, bf=2).read_bytes() * 2)
    jump = write(tmp_path / "jump.mkv", rate=Fraction(2), times=[n + (n >= 12) * 180_000 for n in range(48)], g=24)
    raw = write(tmp_path / "raw.h264", rate=Fraction(25), g=12, bf=2)
    unmarked = tmp_path / "unmarked.mkv"
    with av.open(str(write(tmp_path / "good.mkv"))) as source, av.open(str(unmarked), "w") as output:
        stream = output.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            packet.stream, packet.is_keyframe = stream, False
            if packet.size:
                output.mux(packet)
    cases = [(rare, 15, 18), (anew, 2, 4), (anew, 26, 29), (jump, 4, 8), (jump, 13, 20), (raw, 0.42, 0.82)]
    cases += [(unmarked, 1, 1.5)]
    for path, start, end in cases:
        frames = list(open_video(path).frames())
        wanted = [number for frame, number in zip(frames, numbers_of(path), strict=True) if start <= frame.time < end]
        [(clip, _)] = write_clips(tmp_path / "clips", [(path, start, end, path.name)])
        assert numbers_of(clip) == wanted and len(wanted) >= 4, path


def test_clips_of_video_that_is_all_keyframes(tmp_path):
    """The first picture is not left out, and a shape of pixels that only the container says is kept."""
    path = write(tmp_path / "a.mov", "prores_ks", rate=Fraction(25), aspect=Fraction(4, 3), pixels="yuv422p10le")
    for start, end, first in ((0, 0.8, 0), (0.4, 1.2, 10)):
        [(clip, how)] = write_clips(tmp_path / "clips", [(path, start, end, "a")])
        assert how == "copied" and numbers_of(clip) == list(range(first, first + 20))
        assert open_video(clip).metadata.pixel_aspect == pytest.approx(4 / 3)


def test_clips_without_a_sound_that_their_format_cannot_hold(tmp_path):
    path = write(tmp_path / "a.avi", "mpeg4", rate=Fraction(10), audio="adpcm_ms", b="900k")
    [(clip, _)] = write_clips(tmp_path / "clips", [(path, 1, 3, "a")])
    with av.open(str(clip)) as container:
        assert not container.streams.audio and clip.suffix == ".mkv"
    assert numbers_of(clip) == list(range(10, 30))


def test_the_ending_of_an_address(tmp_path, monkeypatch):
    monkeypatch.setattr(clips, "open_video", Mock())
    monkeypatch.setattr(clips, "_write_whole", lambda *_: "copied")
    [(clip, _)] = write_clips(tmp_path, [("https://host/a.mp4?sig=x.y", 0, 1, "a")])
    assert clip.name == "001 a.mp4"


def numbers_of(path) -> list[int]:
    return numbers(np.stack([frame.rgb for frame in open_video(path).frames()]))


@pytest.mark.parametrize(
    ("stamps", "moment", "times"),
    [
        ([0, 10, 10, 20, 20, 20, 30, 41, 400_000, 400_000, 400_010], (0, 1), None),
        ([0, 10, 100, 900, 910], (3, 8), [0]),  # a picture that is held all the while
    ],
)
def test_odd_stamps(stamps, moment, times, tmp_path):
    write_stamped(tmp_path / "odd.mkv", stamps)
    [(clip, how)] = write_clips(tmp_path / "clips", [(tmp_path / "odd.mkv", *moment, "a")])
    expected = times or [frame.time for frame in open_video(tmp_path / "odd.mkv").frames()]
    assert how == "re-encoded" and [frame.time for frame in open_video(clip).frames()] == pytest.approx(
        expected, abs=2e-3
    )


def test_clips_of_a_video_whose_first_frame_is_damaged(tmp_path):
    path = write(tmp_path / "a.mp4", rate=Fraction(10), g=12, sc_threshold=0)
    with av.open(str(path)) as container:
        packet = next(container.demux(video=0))
    content = bytearray(path.read_bytes())
    content[packet.pos : packet.pos + packet.size] = bytes(packet.size)
    path.write_bytes(content)
    [(clip, how)] = write_clips(tmp_path / "clips", [(str(path), 2, 3, "a")], ReadOptions(on_damage="skip"))
    assert how == "re-encoded" and len(list(open_video(clip).frames())) == 10


def test_a_full_disk_is_not_the_videos_fault(tmp_path):
    (tmp_path / "001 a.mp4").symlink_to("/dev/full")
    with pytest.raises(OSError, match="No space left"):
        list(write_clips(tmp_path, [(str(write(tmp_path / "clip.mp4", g=12)), 0, 2, "a")]))


def test_nothing_is_left_of_a_clip_that_was_stopped(tmp_path, monkeypatch):
    source = str(write(tmp_path / "clip.mp4", g=12, sc_threshold=0))
    monkeypatch.setattr(clips._Encoder, "close", Mock(side_effect=KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        list(write_clips(tmp_path / "clips", [(source, 0.3, 2, "a")]))
    assert not list((tmp_path / "clips").iterdir())
