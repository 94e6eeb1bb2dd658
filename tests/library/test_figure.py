"""The picture of an answer, by what is drawn and where."""

import matplotlib
import numpy as np
import pytest
import torch
from matplotlib.colors import to_hex

from vitaclip_hf.library import figure as figure_module
from vitaclip_hf.library.figure import BEST, OTHER, draw_answer, format_percent, format_times, frame_grid


SCORES = [{"label": "tai chi", "score": 0.2}, {"label": "yoga", "score": 0.75}, {"label": "archery", "score": 0.05}]


def frames(count: int, height: int = 36, width: int = 64) -> torch.Tensor:
    return torch.randint(256, (count, 3, height, width), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


def parts(drawn):
    """The axes of the frames, the axes of the bars, and the texts."""
    [bars] = [axes for axes in drawn.axes if axes.get_label() == "scores"]
    return [axes for axes in drawn.axes if axes is not bars], bars, [text.get_text() for text in drawn.texts]


def extents(drawn) -> list:
    """Where the texts stand, in pixels."""
    drawn.canvas.draw()
    return [text.get_window_extent() for text in drawn.texts if text.get_text()]


def test_frames_times_and_bars():
    given = frames(8)
    drawn = draw_answer(given, [0.125 + 0.25 * n for n in range(8)], SCORES, "clip.mp4")
    pictures, bars, texts = parts(drawn)
    assert len(pictures) == 8
    for axes, frame in zip(pictures, given, strict=True):
        assert np.array_equal(axes.images[0].get_array(), frame.permute(1, 2, 0).numpy())
    times = ["0.1 s", "0.4 s", "0.6 s", "0.9 s", "1.1 s", "1.4 s", "1.6 s", "1.9 s"]
    assert texts == ["clip.mp4", *times, "yoga", "75.0%", "tai chi", "20.0%", "archery", "5.0%"]
    tracks, values = bars.containers
    assert [bar.get_width() for bar in tracks] == [1, 1, 1]
    assert [bar.get_width() for bar in values] == [0.75, 0.2, 0.05]
    assert [to_hex(bar.get_facecolor(), keep_alpha=False).upper() for bar in values] == [BEST, OTHER, OTHER]
    assert bars.get_xlim() == (0, 1) and bars.get_ylim() == (2.5, -0.5)


@pytest.mark.parametrize("count, height, width", [(1, 36, 64), (8, 64, 36), (16, 36, 64), (16, 64, 36), (11, 40, 40)])
def test_frames_keep_their_shape_and_stay_on_the_page(count, height, width):
    drawn = draw_answer(frames(count, height, width), None, SCORES[:1])
    page_width, page_height = drawn.get_size_inches()
    pictures, bars, texts = parts(drawn)
    boxes = [axes.get_position() for axes in pictures]
    assert len(boxes) == count and not [text for text in texts if text.endswith(" s")]
    for box in boxes:
        assert (box.width * page_width) / (box.height * page_height) == pytest.approx(width / height)
        assert 0 < box.x0 < box.x1 < 1 and bars.get_position().y1 < box.y0 < box.y1 < 1
    assert len({round(box.y0, 6) for box in boxes}) == (count + 7) // 8
    assert all(not a.overlaps(b) for n, a in enumerate(boxes) for b in boxes[:n])


def test_ten_long_labels_overlap_nothing():
    label = "a person who explains how to assemble a wooden bookshelf from a flat package, number {}"
    scores = [{"label": label.format(n), "score": 0.1 - n / 1000} for n in range(10)]
    drawn = draw_answer(frames(16), [60.0 * n for n in range(16)], scores, "a very long title " * 20)
    found = extents(drawn)
    width, height = drawn.canvas.get_width_height()
    assert all(box.x0 > 0 and box.x1 < width and box.y0 > 0 and box.y1 < height for box in found)
    assert not [1 for n, a in enumerate(found) for b in found[:n] if a.overlaps(b)]
    bars = parts(drawn)[1].get_window_extent()
    assert not [box for box in found if box.overlaps(bars)]
    title, *_, shortened, _ = parts(drawn)[2]
    assert title.endswith(" very…") and title.count("\n") == 0
    assert shortened == "a person who explains how to assemble a\nwooden bookshelf from a flat package…"


def test_a_word_longer_than_a_line_is_cut():
    drawn = draw_answer(frames(1), None, [{"label": "x" * 500, "score": 1.0}])
    label, percent = parts(drawn)[2][-2:]
    first, second = label.split("\n")
    assert set(first) == {"x"} and second == first[: len(second) - 1] + "…" and percent == "100.0%"


def test_dollars_and_underscores_are_no_formulas():
    drawn = draw_answer(frames(1), None, [{"label": "$5_off$ and $\\nothing$", "score": 0.5}], "$x^2$.mp4")
    drawn.canvas.draw()
    assert parts(drawn)[2] == ["$x^2$.mp4", "", "$5_off$ and $\\nothing$", "50.0%"]


def test_texts_of_a_row_share_a_baseline():
    drawn = draw_answer(frames(1), None, SCORES)
    heights = [text.get_position()[1] for text in drawn.texts[1:]]
    assert heights[0::2] == heights[1::2]
    assert {text.get_va() for text in drawn.texts} == {"baseline"}


def test_nothing_of_matplotlib_is_changed(tmp_path):
    from matplotlib import pyplot

    before = dict(matplotlib.rcParams), pyplot.get_fignums()
    draw_answer(frames(2), [0.0, 1.0], SCORES).savefig(tmp_path / "answer.png")
    assert (dict(matplotlib.rcParams), pyplot.get_fignums()) == before
    assert (tmp_path / "answer.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    "times, texts",
    [
        ([0.0, 0.04, 0.08], ["0.00 s", "0.04 s", "0.08 s"]),
        ([0.5, 59.5], ["0.5 s", "59.5 s"]),
        ([5.0, 5.0], ["5.0 s", "5.0 s"]),
        ([2.0, 59.96, 127.0], ["0:02", "1:00", "2:07"]),
        ([59.96, 60.5], ["1:00.0", "1:00.5"]),
        ([7.0, 3599.7, 3723.0], ["0:00:07", "1:00:00", "1:02:03"]),
    ],
)
def test_times(times, texts):
    assert format_times(times) == texts


@pytest.mark.parametrize(
    "score, text",
    [(0, "0.0%"), (0.0004, "<0.1%"), (0.0005, "0.1%"), (0.9994, "99.9%"), (0.99951, ">99.9%"), (1, "100.0%")],
)
def test_percentages(score, text):
    assert format_percent(score) == text


def test_scores_may_be_rounded_above_one():
    drawn = draw_answer(frames(1), None, [{"label": "yoga", "score": 1.0000001}])
    assert parts(drawn)[2][-1] == "100.0%"


def test_few_frames_are_not_blown_up():
    columns, width, height = frame_grid(1, 16 / 9)
    assert (columns, height) == (1, figure_module.HIGHEST_FRAME) and width == pytest.approx(height * 16 / 9)
    assert frame_grid(16, 1.0)[0] == 8 and frame_grid(10, 1.0)[0] == 5


@pytest.mark.parametrize(
    "times, scores, message",
    [
        ([0.0], SCORES, "`times` must have one entry for each frame, got 1 for 2 frames"),
        (None, [], "`scores` is empty"),
        (None, [{"label": "a", "score": 1.5}], "`scores` must lie in 0 … 1, got 1.5 for 'a'"),
        (None, [*SCORES, {"label": "b", "score": float("nan")}], "got nan for 'b'"),
    ],
)
def test_what_cannot_be_drawn(times, scores, message):
    with pytest.raises(ValueError, match=message):
        draw_answer(frames(2), times, scores)
