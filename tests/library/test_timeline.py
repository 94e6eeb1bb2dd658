"""Windows, scores over time, segments and their files, against frames read one by one and counts by hand."""

import csv
import json
import re
from dataclasses import replace
from itertools import pairwise, product
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from drawn_clips import write
from evaluate_timeline import temporal_average_precision
from matplotlib.colors import to_hex
from matplotlib.patches import StepPatch
from stamped_video import write_stamped

from vitaclip_hf import VideoDecodingError, fast_dtype, open_video
from vitaclip_hf.cli.main import main
from vitaclip_hf.library import windows as windows_module
from vitaclip_hf.library.figure import BEST, OTHER
from vitaclip_hf.library.moments import clock
from vitaclip_hf.library.timeline import ScoredTime, Segment, Thumbnails, VideoTimeline
from vitaclip_hf.library.timeline_files import write_timeline
from vitaclip_hf.library.timeline_picture import LANE_BAR, draw_timeline
from vitaclip_hf.library.windows import check_window, read_windows
from vitaclip_hf.model.decoding import DecodedFrame, PyAVVideo
from vitaclip_hf.model.scorer import ScoreError
from vitaclip_hf.model.video_inputs import VideoReader


DEMO = Path(__file__).parents[2] / "examples" / "demo"
LABELS = (DEMO / "labels.txt").read_text().splitlines()


@pytest.mark.parametrize("window, stride", [(2.0, 1.0), (2.0, 2.0), (3.0, 2.5), (1.0, 0.3), (20.0, 5.0)])
def test_windows_hold_the_frames_of_the_middles_of_their_parts(checkpoint, joined, window, stride):
    processor = checkpoint.processor.video_processor
    video = open_video(joined)
    found = list(read_windows(VideoReader(processor), joined, window, stride))
    assert [w.start for w in found] == pytest.approx([n * stride for n in range(len(found))])
    ends = [min(w.start + window, 8.0) for w in found]
    assert [w.end for w in found] == pytest.approx(ends) and ends[-1] == 8.0 and 8.0 not in ends[:-1]
    for w in found:
        # Frame n is on display from n/16 s on.
        numbers = [int((w.start + (k + 0.5) * (w.end - w.start) / 8) * 16 + 1e-4) for k in range(8)]
        assert w.frames == numbers and w.times == pytest.approx([number / 16 for number in numbers])
        pixels = processor(video.read(numbers), do_sample_frames=False, return_tensors="pt")["pixel_values_videos"]
        assert torch.allclose(w.pixels, pixels, atol=1e-5)


def test_frames_are_decoded_once_and_only_wanted_ones_converted(checkpoint, joined, monkeypatch):
    converted, decoded = [], []
    original = DecodedFrame.rgb.func
    monkeypatch.setattr(DecodedFrame.rgb, "func", lambda frame: converted.append(frame.number) or original(frame))
    in_order = PyAVVideo.frames

    def counted(video):
        for frame in in_order(video):
            decoded.append(frame.number)
            yield frame

    monkeypatch.setattr(PyAVVideo, "frames", counted)
    found = list(read_windows(checkpoint.encoder().reader(), joined, 2.0, 1.0))
    assert decoded == list(range(128))
    assert converted == sorted({number for w in found for number in w.frames}) and len(converted) < 64


def test_a_wrong_duration_in_the_container_changes_nothing(checkpoint, joined, monkeypatch):
    processor = checkpoint.processor.video_processor
    expected = [(w.start, w.end, w.frames) for w in read_windows(VideoReader(processor), joined, 2.0, 1.0)]
    opened = windows_module.video_from
    for stated in (None, 5.0, 60.0):

        def lying(*args, stated=stated, **kwargs):
            video = opened(*args, **kwargs)
            video.metadata.duration = stated
            return video

        monkeypatch.setattr(windows_module, "video_from", lying)
        found = [(w.start, w.end, w.frames) for w in read_windows(VideoReader(processor), joined, 2.0, 1.0)]
        if stated == 5.0:  # windows up to there end there
            assert found[0] == expected[0] and found[-1][1] == 8.0
        else:
            assert found == expected


def test_one_window_scores_as_the_classifier(checkpoint):
    video = DEMO / "videos" / "taxi_moving_left.mp4"
    answer = checkpoint.classifier()(video, candidate_labels=LABELS, return_details=True)
    timeline = VideoTimeline(
        checkpoint.encoder(), LABELS, window=2, stride=1, decoder="decord"
    )  # PyAV, whatever is set
    [window] = timeline.scores(video)
    for row in answer["scores"]:
        place = LABELS.index(row["label"])
        assert window.scores[place] == pytest.approx(row["score"], abs=1e-5)
        assert window.cosines[place] == pytest.approx(row["cosine"], abs=1e-5)
    assert window.frames == answer["frames"] and window.times == answer["times"]
    [segment] = timeline.segments([window])
    assert (segment.start, segment.end, segment.label) == (0, 2, "taxi moving left")


def test_scenes_are_found_where_they_are(checkpoint, joined, scenes):
    timeline = VideoTimeline(checkpoint.encoder(), LABELS, window=2, stride=1, high=0.4, low=0.2)
    found = list(timeline.segments(timeline.scores(joined)))
    truth = [Segment(2 * n, 2 * n + 2, scene.label, 1, 1) for n, scene in enumerate(scenes)]
    values = temporal_average_precision(truth, found)
    assert sum(values.values()) / 4 >= 0.75, (values, found)


def cell(start: float, *scores: float, length: float = 1.0) -> ScoredTime:
    values = np.array(scores, np.float32)
    return ScoredTime(start, start + length, values, values / 2)


def test_scores_that_are_no_numbers_are_no_timeline(checkpoint, joined, monkeypatch):
    timeline = VideoTimeline(checkpoint.encoder(), ["a", "b"], window=2)
    answer = torch.full((1, 2), torch.nan), torch.zeros(1, 2)
    monkeypatch.setattr(timeline.scorer, "compare", lambda features: answer)
    with pytest.raises(ScoreError, match="NaN"):
        next(timeline.scores(joined))


def test_cells_are_means_of_the_windows_over_their_middle(checkpoint):
    windows = [cell(0, 0.2, length=2), cell(1, 0.4, length=2), cell(2, 0.9, length=1.5)]
    windows = [replace(window, frames=[number]) for number, window in enumerate(windows)]
    cells = list(VideoTimeline(checkpoint.encoder(), ["a"], stride=1).cells(windows))
    assert [(c.start, c.end) for c in cells] == [(0, 1), (1, 2), (2, 3), (3, 3.5)]
    assert [float(c.scores[0]) for c in cells] == pytest.approx([0.2, 0.3, 0.65, 0.9])
    assert [float(2 * c.cosines[0]) for c in cells] == pytest.approx([0.2, 0.3, 0.65, 0.9])
    assert [c.frames for c in cells] == [[0], [0], [2], [2]]  # of the window whose middle is nearest
    [segment] = VideoTimeline(checkpoint.encoder(), ["a"]).merge([cell(0, 0.9, length=3), cell(3, 0.5)])
    assert (segment.score, segment.cosine) == pytest.approx((0.8, 0.4))  # weighted by the lengths


@pytest.mark.parametrize(
    "settings, segments",
    [
        ({}, {"a": [(1, 4), (8, 9)], "b": [(0, 2), (3, 8)]}),
        ({"min_length": 2}, {"a": [(1, 4)], "b": [(0, 2), (3, 8)]}),
        ({"min_cosine": 0.39}, {"a": [(2, 3), (8, 9)], "b": [(0, 1), (4, 5), (7, 8)]}),
    ],
)
def test_segments_by_two_thresholds(checkpoint, settings, segments):
    scores = [0.1, 0.3, 0.8, 0.3, 0.1, 0.3, 0.3, 0.1, 0.9]
    timeline = VideoTimeline(checkpoint.encoder(), ["a", "b"], high=0.5, low=0.25, **settings)
    found = list(timeline.merge(cell(n, score, 1 - score) for n, score in enumerate(scores)))
    by_label = {label: [s for s in found if s.label == label] for label in "ab"}
    assert {label: [(s.start, s.end) for s in part] for label, part in by_label.items()} == segments
    within = [cell(0, 0.9, 0.1), cell(1, 0.9, 0.9), cell(2, 0.9, 0.1)]  # b begins and ends within a
    assert [s.label for s in timeline.merge(within)] == (["a"] if "min_length" in settings else ["a", "b"])
    if settings.get("min_cosine"):  # a is not shown there
        [chosen] = timeline.one_label([replace(cell(0, 0.6, 0.4), cosines=np.array([0.1, 0.4]))])
        assert chosen.scores.tolist() == pytest.approx([0, 0.4])
    if not settings:
        assert [s.score for s in by_label["a"]] == pytest.approx([1.4 / 3, 0.9])
        assert [s.cosine for s in by_label["a"]] == pytest.approx([0.7 / 3, 0.45])


def test_a_segment_is_given_when_it_is_over(checkpoint):
    def cells():
        yield cell(0, 0.9)
        yield cell(1, 0.0)
        raise AssertionError("read on")

    assert next(VideoTimeline(checkpoint.encoder(), ["a"]).merge(cells())).end == 1


def test_one_label_at_a_time_changes_where_the_pictures_do(checkpoint, tmp_path, monkeypatch):
    """Frame n has the value n; from 4 s on, frames are half as long. Frame 60 begins at 5 s."""
    stamps = [10 * n for n in range(40)] + [400 + 5 * n for n in range(40)]
    write_stamped(tmp_path / "video.mkv", stamps, codec="libx264")
    timeline = VideoTimeline(checkpoint.encoder(), ["a", "b", "c"], window=2, stride=0.5)
    cells = list(timeline.cells(timeline.scores(tmp_path / "video.mkv")))
    scores = np.full((len(cells), 3), [0.5, 0.1, 0.2])
    scores[3] = [0.3, 0.1, 0.6]  # twice as high for a quarter of a window is no change
    scores[11:] = [0.1, 0.8, 0.1]  # half a second late
    cells = [replace(cell, scores=own) for cell, own in zip(cells, scores, strict=True)]

    def score(values: torch.Tensor) -> SimpleNamespace:
        late = (values >= 60).float().mean()
        return SimpleNamespace(scores=torch.stack([1 - late, late, late * 0])[None])

    monkeypatch.setattr(timeline.reader, "process", lambda frames: frames)
    monkeypatch.setattr(timeline.scorer, "score", score)
    first, second = timeline.separate(cells, tmp_path / "video.mkv")
    assert (first.label, first.start, second.label, second.end) == ("a", 0, "b", pytest.approx(6, abs=0.06))
    assert first.end == second.start == pytest.approx(5.0, abs=0.15)
    early = [replace(own, scores=scores[0] if n < 9 else scores[-1]) for n, own in enumerate(cells)]
    timeline.min_length = 1.2
    assert [segment.label for segment in timeline.separate(early, tmp_path / "video.mkv")] == ["a"]  # 1 s of b is left
    timeline.min_length = 0
    chosen = [own.scores.tolist() for own in timeline.one_label(cells)]
    assert chosen == [[0.3 if n == 3 else 0.5, 0, 0] if n < 11 else [0, 0.8, 0] for n in range(len(cells))]
    drawn = np.log(np.random.default_rng(15).dirichlet(np.ones(3), 7))  # beside the best of all 3**7 paths
    worth = {p: drawn[range(7), p].sum() - 2 * sum(a != b for a, b in pairwise(p)) for p in product(range(3), repeat=7)}
    found = timeline.one_label(replace(own, scores=np.exp(row)) for own, row in zip(cells, drawn, strict=False))
    assert tuple(own.scores.argmax() for own in found) == max(worth, key=worth.get)

    def damaged(numbers):
        raise VideoDecodingError("no time is left")

    for about in (SimpleNamespace(seeks=True), SimpleNamespace(seeks=False)):
        read = damaged if about.seeks else pytest.fail
        video = SimpleNamespace(read=read, metadata=about)
        monkeypatch.setattr(timeline.reader, "open", lambda source, video=video: video)
        assert [segment.end for segment in timeline.separate(cells, "video.mkv")] == [5.5, pytest.approx(6, abs=0.06)]


@pytest.mark.parametrize(("ending", "seeks"), [("mp4", True), ("mkv", True), ("avi", False), ("ts", False)])
def test_which_containers_reach_a_frame_without_those_before_it(tmp_path, ending, seeks):
    for options in ({}, {"max_seconds": 60}):
        assert open_video(write(tmp_path / f"video.{ending}"), **options).metadata.seeks == seeks


@pytest.mark.parametrize("window, stride", [(0, 1), (2, 0), (2, 3), (float("nan"), 1), (float("inf"), 1)])
def test_wrong_lengths(window, stride):
    with pytest.raises(ValueError, match="`window`|`stride`"):
        check_window(window, stride)


SEGMENTS = [Segment(61.5, 3723.25, "a & <b>\n--> c", 0.5, 0.25), Segment(0, 2.0, "tai chi", 0.987654, 0.3)]


def test_files(tmp_path):
    for ending in ("json", "csv", "vtt", "srt"):
        write_timeline(tmp_path / f"t.{ending}", SEGMENTS, "talk.mp4", 25)
    content = json.loads((tmp_path / "t.json").read_text())
    assert content["version"] == "VERSION 1.3" and content["external_data"] == {"used": False, "details": ""}
    assert content["results"]["talk"][0] == {"label": "tai chi", "score": 0.987654, "cosine": 0.3, "segment": [0, 2]}
    rows = list(csv.DictReader((tmp_path / "t.csv").open(newline="")))
    assert rows[1]["label"] == "a & <b>\n--> c" and float(rows[1]["end"]) == 3723.25
    assert (tmp_path / "t.vtt").read_text() == (
        "WEBVTT\n\n00:00:00.000 --> 00:00:02.000\ntai chi (99%)\n\n"
        "00:01:01.500 --> 01:02:03.250\na &amp; &lt;b&gt; --&gt; c (50%)\n"
    )
    assert (tmp_path / "t.srt").read_text() == (
        "1\n00:00:00,000 --> 00:00:02,000\ntai chi (99%)\n\n2\n00:01:01,500 --> 01:02:03,250\na & ‹b› --› c (50%)\n"
    )
    assert clock(3599.9996, 3) == "01:00:00.000" and clock(59.96) == "00:01:00.0" and clock(36000.04) == "10:00:00.0"
    with pytest.raises(ValueError, match="t.doc"):
        write_timeline(tmp_path / "t.doc", SEGMENTS, "talk.mp4")


def test_page_with_a_player(tmp_path):
    """Links are relative to the page, quoted, with the times of the moment; names are text, not markup."""
    (tmp_path / "out").mkdir()
    segments = [Segment(3.25, 61, "tai <chi>", 0.876, 0.3), Segment(1, 2, "yoga", 0.5, 0.3)]
    write_timeline(tmp_path / "out" / "t.html", segments, tmp_path / "a #1.mp4")
    write_timeline(tmp_path / "web.html", segments, "https://host/a.mp4")
    text = (tmp_path / "out" / "t.html").read_text()
    assert re.findall('href="(.*?)"', text) == ["../a%20%231.mp4#t=1.000,2.000", "../a%20%231.mp4#t=3.250,61.000"]
    assert "tai &lt;chi&gt;<small>88%</small><small>00:00:03.2 to 00:01:01.0</small>" in text and "<chi>" not in text
    assert 'href="https://host/a.mp4#t=1.000,2.000"' in (tmp_path / "web.html").read_text()
    write_timeline(tmp_path / "file.html", segments, "file:///videos/a.mp4")
    assert 'href="file:///videos/a.mp4#t=1.000,2.000"' in (tmp_path / "file.html").read_text()


@pytest.mark.parametrize("fps, rate", [(25.0, 25.0), (16.0, 24000 / 1001), (10.0, 25.0), (30000 / 1001, 30000 / 1001)])
def test_editing_programs(tmp_path, fps, rate):
    otio = pytest.importorskip("opentimelineio")
    write_timeline(tmp_path / "t.otio", SEGMENTS, "talk.mp4", fps)
    [clip] = otio.adapters.read_from_file(str(tmp_path / "t.otio")).video_tracks()[0]
    assert clip.media_reference.target_url == Path("talk.mp4").absolute().as_uri()
    assert clip.source_range.duration.to_seconds() == pytest.approx(3723.25, abs=1 / fps)  # of the last segment
    write_timeline(tmp_path / "whole.otio", SEGMENTS, "talk.mp4", fps, end=4000)
    [whole] = otio.adapters.read_from_file(str(tmp_path / "whole.otio")).video_tracks()[0]
    ranges = (whole.source_range, whole.media_reference.available_range)
    assert [span.duration.to_seconds() for span in ranges] == pytest.approx([4000, 4000], abs=1 / fps)
    spans = [marker.marked_range for marker in clip.markers]
    assert [marker.name for marker in clip.markers] == ["tai chi", "a & <b> --> c"]
    assert [span.start_time.to_seconds() for span in spans] == pytest.approx([0.0, 61.5], abs=1 / fps)
    assert [span.end_time_exclusive().to_seconds() for span in spans] == pytest.approx([2.0, 3723.25], abs=1 / fps)
    assert clip.markers[0].metadata["vitaclip"]["score"] == 0.987654
    pytest.importorskip("otio_cmx3600_adapter")
    write_timeline(tmp_path / "t.edl", SEGMENTS, "talk.mp4", fps)
    codes = re.findall(r"\d\d:\d\d:\d\d[:;]\d\d", (tmp_path / "t.edl").read_text())
    times = [otio.opentime.from_timecode(code, rate).to_seconds() for code in codes]
    with pytest.raises(ValueError, match="overlap"):
        write_timeline(tmp_path / "t.edl", [*SEGMENTS, Segment(1, 3, "yoga", 0.5, 0.3)], "talk.mp4", fps)
    first, second = [0, 2, 0, 2, 0], [61.5, 3723.25, 61.5, 3723.25, 61.5]  # from, to; the same on the track; marker
    assert times == pytest.approx([*first, *second], abs=0.15)


@pytest.mark.parametrize(
    ("code", "fps", "frames"),
    [("01:00:00:00", 16, 57_600), ("01:00:00:12", 25, 90_012), ("00:01:00;02", 30_000 / 1001, 1800), ("x", 25, 0)],
)
def test_time_code_of_the_camera_and_address_of_the_video(tmp_path, code, fps, frames):
    otio = pytest.importorskip("opentimelineio")
    write_timeline(tmp_path / "t.otio", SEGMENTS[:1], "https://host/a%20b.mp4", fps, code)
    (clip,) = otio.adapters.read_from_file(str(tmp_path / "t.otio")).tracks[0]
    assert clip.media_reference.available_range.start_time.value == clip.source_range.start_time.value == frames
    expected = frames + round(SEGMENTS[0].start * fps)
    assert clip.markers[0].marked_range.start_time.value == expected
    assert clip.media_reference.target_url == "https://host/a%20b.mp4"
    write_timeline(tmp_path / "short.otio", [Segment(1, 1.001, "a", 0.5, 0.3)], "a.mp4", fps)
    (clip,) = otio.adapters.read_from_file(str(tmp_path / "short.otio")).tracks[0]
    assert clip.markers[0].marked_range.duration.value == 1  # a frame, no less


@pytest.mark.parametrize("ending", ["otio", "edl"])
def test_editing_programs_get_names_that_are_not_utf8(tmp_path, ending):
    pytest.importorskip("otio_cmx3600_adapter")
    (tmp_path / "\udce9").mkdir()
    write_timeline(tmp_path / "\udce9" / f"t.{ending}", SEGMENTS, "caf\udce9.mp4", 25)
    text = (tmp_path / "\udce9" / f"t.{ending}").read_text()
    assert "/caf%E9.mp4" in text and "caf\\udce9.mp4" in text.replace("\\\\", "\\")


def test_thumbnails_are_few_and_spread():
    thumbnails = Thumbnails(count=5)
    for n in range(10_001):
        thumbnails.add(n, np.full((2, 2, 3), n // 40, np.uint8))
    pictures = thumbnails.nearest([10_000 / 4 * place for place in range(5)])
    assert all(abs(time - 2500 * place) < 700 for place, (time, _) in enumerate(pictures))
    assert all(picture[0, 0, 0] == time // 40 for time, picture in pictures)
    assert len({time for time, _ in thumbnails.nearest(range(10_001))}) <= 21


def test_picture():
    scored, thumbnails = [cell(n, 0.9 if n < 10 else 0.0, 0.8 if n >= 10 else 0.0) for n in range(20)], Thumbnails()
    for n in range(20):
        thumbnails.add(n + 0.5, np.full((36, 64, 3), n, np.uint8))
    segments = [Segment(0, 10, "yoga", 0.9, 0.3), Segment(10, 20, "tai chi", 0.8, 0.3)]
    [axes] = draw_timeline(segments, ["yoga", "tai chi"], scored, thumbnails, "talk.mp4").axes
    bars = [bar for bars in axes.containers for bar in bars]
    left, width = bars[0].get_x(), bars[0].get_width()
    spans = [((bar.get_x() - left) / width * 20, bar.get_width() / width * 20) for bar in bars]
    expected = [(0, 20), (0, 10), (0, 20), (10, 10)]  # each lane and its segment
    assert spans == [pytest.approx(span, abs=1e-6) for span in expected]
    curves = [patch for patch in axes.patches if isinstance(patch, StepPatch)]
    assert [to_hex(curve.get_facecolor()).upper() for curve in curves] == [OTHER, BEST, OTHER, BEST]
    for place, score in enumerate([0.9, 0.8]):  # dark within the segment, nothing outside
        data = curves[2 * place + 1].get_data()
        inside = np.arange(20) < 10 if place == 0 else np.arange(20) >= 10
        assert np.allclose((data.baseline - data.values) / LANE_BAR, inside * score, atol=1e-6)


def test_command(checkpoint, joined, damaged, scenes, tmp_path, capsys):
    arguments = ["timeline", str(joined), "--model", str(DEMO / "checkpoint"), "--window", "2", "--stride", "1"]
    labels = [scene.label for scene in scenes]
    outputs = [tmp_path / f"t.{ending}" for ending in ("json", "vtt", "png")]
    arguments += [part for path in outputs for part in ("--output", str(path))]
    arguments += ["--labels", ",".join(labels), "--scores", str(tmp_path / "scores.csv")]
    assert main(arguments) == 0
    printed = capsys.readouterr()
    rows = json.loads(outputs[0].read_text())["results"]["joined"]
    assert {row["label"] for row in rows} == set(labels)
    assert all(one["segment"][1] <= other["segment"][0] for one, other in pairwise(rows))
    assert len(printed.out.splitlines()) == len(rows) == outputs[1].read_text().count("-->")
    assert outputs[2].read_bytes().startswith(b"\x89PNG")
    table = [list(map(float, row[2:])) for row in list(csv.reader((tmp_path / "scores.csv").open(newline="")))[1:]]
    full = list(VideoTimeline(checkpoint.encoder(), labels, window=2, stride=1).scores(joined))
    assert table == [pytest.approx(window.scores.tolist(), abs=0.05) for window in full]
    assert f"s in {str(fast_dtype()).removeprefix('torch.')} on " in printed.err
    command = [*arguments[:8], "--labels", ",".join(labels)]
    assert main([*command, "--clips", str(tmp_path / "clips")]) == 0
    assert len([*(tmp_path / "clips").iterdir()]) == len(rows)
    assert len(re.findall(r"clips/\d+ .*\.mp4 (?:copied|re-encoded)", capsys.readouterr().err)) == len(rows)
    pytest.importorskip("opentimelineio")
    assert main([*arguments[:8], "--labels", "nothing of it", "--output", str(tmp_path / "t.otio")]) == 0
    assert "1 segment, 1 label," in (err := capsys.readouterr().err) and "a single label always scores 100%" in err
    [clip] = json.loads((tmp_path / "t.otio").read_text())["tracks"]["children"][0]["children"]
    length = clip["source_range"]["duration"]
    assert length["value"] / length["rate"] == pytest.approx(open_video(joined).metadata.duration, abs=0.1)
    assert main([*command, "--min-cosine", "0.99"]) == 0
    score, cosine = re.findall(r"(?:score of a window is|highest cosine) ([\d.]+)[,;]", capsys.readouterr().err)
    assert float(score) == pytest.approx(max(one.scores.max() for one in full), abs=0.05)
    assert float(cosine) == pytest.approx(max(one.cosines.max() for one in full), abs=0.02)
    found = []
    for given in (["--labels", "taxi left,bell left"], ["--labels", "taxi,bell", "--template", "{} left"]):
        assert main([*command[:8], *given, "--scores", str(tmp_path / "scores.csv")]) == 0
        found.append((tmp_path / "scores.csv").read_text().splitlines()[1:])
    assert found[0] == found[1]
    capsys.readouterr()
    command[1] = str(tmp_path / "damaged.mp4")
    Path(command[1]).write_bytes(damaged)
    assert main([*command, "--window", "8", "--output", str(tmp_path / "none.png")]) == 1  # no window is whole
    assert "damaged.mp4: " in capsys.readouterr().err and not (tmp_path / "none.png").exists()
    assert main([*command, "--on-damage", "skip", "--clips", str(tmp_path / "whole")]) == 0
    lengths = [open_video(clip).metadata.total_num_frames for clip in (tmp_path / "whole").iterdir()]
    assert sum(lengths) == open_video(command[1], on_damage="skip").metadata.total_num_frames == 96


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["missing.mp4", "--labels", "a,b"], "missing.mp4"),
        (["{video}", "--labels", "a,b", "--low", "0.9"], "--low"),
        (["{video}", "--labels", "a,b", "--output", "none/t.vtt"], "--output none/t.vtt: there is no folder none"),
        (["{video}", "--labels", "a,b", "--overlap", "--output", "t.edl"], "an EDL holds one event after another"),
        (["{video}", "--template", "a {{}}"], "--template is for given labels"),
    ],
)
def test_command_with_bad_input(joined, refused, arguments, message):
    arguments = [argument.format(video=joined) for argument in arguments]
    assert message in refused("timeline", *arguments, "--model", DEMO / "checkpoint")
