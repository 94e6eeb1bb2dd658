"""The clock of frames, against a plain second writing of its rule, and files whose stamps are wrong."""

import random
from fractions import Fraction
from itertools import accumulate

import av
import numpy as np
import pytest
from stamped_video import write_stamped

from vitaclip_hf import open_video
from vitaclip_hf.model.frame_table import MAX_GAP, Clock


def plain_times(stamps: list, length: float, start: float) -> list[float]:
    """Time goes on by the step between two stamps if that step can be one, and by a frame's length otherwise."""
    times: list[float] = []
    for place, stamp in enumerate(stamps):
        if place == 0:
            first = 0.0 if stamp is None else stamp - start
            times.append(first if 0 <= first <= MAX_GAP else 0.0)
            # The latest stamp that the time is counted from, and the time there.
            known, there = (start, 0.0) if stamp is None else (stamp, times[0])
            continue
        expected = times[-1] + length
        time = expected
        if stamp is not None:
            if known is not None:
                step = there + (stamp - known) - times[-1]
                time = times[-1] + step if 0 <= step <= MAX_GAP else expected
            known, there = stamp, time
        times.append(time)
    return times


def test_drawn_stamps_give_the_times_of_the_plain_rule():
    draw = random.Random(3)
    for _ in range(2000):
        stamp, stamps = draw.choice([0, 5, -40, 10**6]), []
        for _ in range(draw.randint(1, 40)):
            stamp += draw.choice([1, 1, 1, 1, 0, 2, 50, 3600, 3601, 86_400, -1, -30, -(10**6), 1_700_000_000])
            stamps.append(draw.choice([stamp] * 9 + [None]))
        start = draw.choice([0, 5, stamps[0] or 0])
        clock = Clock(1, start)
        times = [clock(stamp) for stamp in stamps]
        assert times == plain_times(stamps, 1, start), (stamps, start)
        assert len(clock.gaps) <= len(stamps) and all(gap > MAX_GAP for gap in clock.gaps)


def test_drawn_files_have_the_times_of_the_plain_rule(tmp_path):
    """Frames that are held, stamps that come twice, and a picture that begins at, before or after its sound."""
    draw = random.Random(5)
    for _ in range(30):
        steps = draw.choices([10, 10, 10, 1, 0, 500], k=draw.randint(1, 20))
        stamps = [*accumulate([draw.choice([0, 40, 300]), *steps])]
        sound, last = draw.choice([None, 0.0, 0.4]), draw.choice([0, 10, 400])
        write_stamped(tmp_path / "drawn.mkv", stamps, audio_from=sound, length=last)
        frames = list(open_video(tmp_path / "drawn.mkv").frames())
        zero = stamps[0] / 100 if sound is None else min(sound, stamps[0] / 100)
        times = plain_times([stamp / 100 for stamp in stamps], 0.1, zero)
        assert [frame.time for frame in frames] == pytest.approx(times, abs=2e-3), (stamps, sound)
        assert [frame.end for frame in frames[:-1]] == [frame.time for frame in frames[1:]]
        assert frames[-1].end > frames[-1].time


def test_a_clock_that_was_set_is_closed_and_named(tmp_path, monkeypatch):
    messages = []
    monkeypatch.setattr("vitaclip_hf.model.decoding.logger.warning", messages.append)
    write_stamped(tmp_path / "set.mkv", [*range(0, 100, 10), *range(10_000_000, 10_000_100, 10)])
    video = open_video(tmp_path / "set.mkv")
    times = [frame.time for frame in video.frames()]
    assert times == pytest.approx([place / 10 for place in range(20)], abs=0.011)
    assert video.metadata.duration < 3.2 and "99,999 s" in messages[0] and "set.mkv" in messages[0]


def test_time_zero_is_the_start_of_the_container(tmp_path):
    write_stamped(tmp_path / "late.mkv", range(300, 400, 10), audio_from=0.0)
    video = open_video(tmp_path / "late.mkv")
    assert [frame.time for frame in video.frames()] == pytest.approx([3 + place / 10 for place in range(10)])
    assert video.metadata.start == pytest.approx(3.0) and video.metadata.duration < 2.1
    video.read([0, 5])
    assert video.metadata.timestamps == pytest.approx([3.0, 3.5], abs=0.2)


@pytest.mark.parametrize(
    ("stamps", "length", "seconds"),
    [
        (range(0, 100, 10), 0, 1.0),
        ([*range(0, 100, 10), 400], 0, 4.1),  # a frame that is held
        ([7], 0, 0.01),
        (range(0, 100, 10), 300, 1.0),  # all say 3 s, and the next one comes after 0.1 s
        ([*range(0, 100, 10), *range(10_000_000, 10_000_100, 10)], 300, 2.0),
    ],
)
def test_count_rate_and_length_belong_together(tmp_path, stamps, length, seconds):
    write_stamped(tmp_path / "clip.mkv", stamps, length=length)
    metadata = open_video(tmp_path / "clip.mkv").metadata
    assert metadata.total_num_frames == len(stamps)
    assert metadata.duration == pytest.approx(seconds, abs=0.1)
    assert metadata.fps == pytest.approx(len(stamps) / metadata.duration, rel=0.01)


def test_empty_packets_hold_the_picture_before_them(tmp_path):
    """As Theora has them, and grabbers that drop frames."""
    with av.open(str(tmp_path / "held.nut"), "w") as output:
        stream = output.add_stream("mpeg4", rate=25)
        stream.width = stream.height = 32
        for number in range(4):
            picture = av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8))
            picture.pts = number
            for packet in (*stream.encode(picture), av.Packet(0)):
                packet.stream, packet.time_base = stream, Fraction(1, 25)
                packet.pts = packet.dts = 3 * number + (packet.size == 0)
                output.mux(packet)
    video = open_video(tmp_path / "held.nut")
    assert [frame.time for frame in video.frames()] == pytest.approx([0, 0.12, 0.24, 0.36])
    assert video.metadata.total_num_frames == 4 and len(video.read([0, 3])) == 2
