"""The picture of an answer, by what is drawn and where."""

import numpy as np
import pytest
import torch
from matplotlib.colors import to_hex

from vitaclip_hf.library import figure


SCORES = [{"label": "tai chi", "score": 0.2}, {"label": "yoga", "score": 0.75}, {"label": "archery", "score": 0.05}]


def frames(count: int, height: int = 36, width: int = 64) -> torch.Tensor:
    return torch.randint(256, (count, 3, height, width), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


def texts_of(drawn) -> list[str]:
    return [text.get_text() for text in drawn.axes[0].texts]


def test_frames_times_and_bars():
    pixels = frames(8)
    drawn = figure.draw_answer(pixels, [0.125 + 0.25 * n for n in range(8)], SCORES, "clip.mp4")
    for image, frame in zip(drawn.axes[0].images, pixels, strict=True):
        assert np.array_equal(image.get_array(), frame.permute(1, 2, 0).numpy())
    times = ["0.1 s", "0.4 s", "0.6 s", "0.9 s", "1.1 s", "1.4 s", "1.6 s", "1.9 s"]
    assert texts_of(drawn) == ["clip.mp4", *times, "yoga", "75.0%", "tai chi", "20.0%", "archery", "5.0%"]
    bars = drawn.axes[0].patches
    tracks, values = bars[::2], bars[1::2]
    shares = [value.get_width() / track.get_width() for track, value in zip(tracks, values, strict=True)]
    assert shares == pytest.approx([0.75, 0.2, 0.05])
    assert [to_hex(bar.get_facecolor()).upper() for bar in values] == [figure.BEST, figure.OTHER, figure.OTHER]
    rows = drawn.axes[0].texts[9:]  # texts of a row share a baseline
    assert [text.get_position()[1] for text in rows[::2]] == [text.get_position()[1] for text in rows[1::2]]
    assert {text.get_va() for text in rows} == {"baseline"}
    noted = figure.draw_answer(pixels, None, SCORES, note="none: too far")  # then no bar is stressed
    assert {to_hex(bar.get_facecolor()).upper() for bar in noted.axes[0].patches} == {figure.OTHER, figure.TRACK}
    assert "none: too far" in texts_of(noted)
    short = {"frames": [0, 1, 1, 1], "times": [0.0, 0.5, 0.5, 0.5], "scores": SCORES, "answer": "yoga"}
    drawn = figure.draw_details(pixels[:2], short)  # a short video, whose last frame was repeated
    assert texts_of(drawn)[:3] == ["0.0 s", "0.5 s", "yoga"] and len(drawn.axes[0].images) == 2


@pytest.mark.parametrize("count, height, width", [(1, 36, 64), (16, 64, 36), (11, 40, 40)])
def test_frames_keep_their_shape_and_stay_on_the_page(count, height, width):
    drawn = figure.draw_answer(frames(count, height, width), None, SCORES[:1])
    page_width, page_height = drawn.get_size_inches()
    assert drawn.axes[0].get_xlim() == (0, page_width) and drawn.axes[0].get_ylim() == (page_height, 0)
    boxes = [image.get_window_extent() for image in drawn.axes[0].images]
    assert len(boxes) == count and not [text for text in texts_of(drawn) if text.endswith(" s")]
    bars = max(bar.get_window_extent().y1 for bar in drawn.axes[0].patches)
    for box in boxes:
        assert box.width / box.height == pytest.approx(width / height)
        assert box.height <= figure.HIGHEST_FRAME * drawn.dpi + 1  # few frames are not blown up
        assert box.x0 > 0 and box.x1 < page_width * drawn.dpi and bars < box.y0 and box.y1 < page_height * drawn.dpi
    assert len({round(box.y0) for box in boxes}) == (count + 7) // 8
    assert all(not a.overlaps(b) for n, a in enumerate(boxes) for b in boxes[:n])
    assert (figure.columns_of(16), figure.columns_of(10)) == (8, 5)


def test_ten_long_labels_overlap_nothing():
    label = "a person who explains how to assemble a wooden bookshelf from a flat package, number {}"
    scores = [{"label": label.format(n), "score": 0.1 - n / 1000} for n in range(10)]
    drawn = figure.draw_answer(frames(16), [60.0 * n for n in range(16)], scores, "a very long title " * 20)
    drawn.canvas.draw()
    texts = [text for text in drawn.axes[0].texts if text.get_text()]
    tracks = [bar for bar in drawn.axes[0].patches if to_hex(bar.get_facecolor()).upper() == figure.TRACK]
    boxes = [part.get_window_extent() for part in (*texts, *tracks)]
    width, height = drawn.canvas.get_width_height()
    assert all(box.x0 > 0 and box.x1 < width and box.y0 > 0 and box.y1 < height for box in boxes)
    assert not [1 for n, a in enumerate(boxes) for b in boxes[:n] if a.overlaps(b)]
    title, *_, shortened, _ = texts_of(drawn)
    assert title.startswith("a very long title a very") and title.endswith("…") and "\n" not in title
    assert shortened == "a person who explains how to assemble a\nwooden bookshelf from a flat package…"


def test_odd_signs_are_no_formulas():
    drawn = figure.draw_answer(frames(1), None, [{"label": "$5_off$ and\n$\\nothing$ \x1b", "score": 0.5}], "$x^2$.mp4")
    drawn.canvas.draw()
    assert texts_of(drawn) == ["$x^2$.mp4", "", "$5_off$ and $\\nothing$ \\x1b", "50.0%"]


@pytest.mark.parametrize(
    "times, texts",
    [
        ([0.0, 0.04, 0.08], ["0.00 s", "0.04 s", "0.08 s"]),
        ([0.0, 1 / 120, 2 / 120], ["0.000 s", "0.008 s", "0.017 s"]),
        ([65.0, 65 + 1 / 240], ["1:05.000", "1:05.004"]),
        ([65.0, 65.04, 65.08], ["1:05.00", "1:05.04", "1:05.08"]),
        ([0.5, 59.5], ["0.5 s", "59.5 s"]),
        ([5.0, 5.0], ["5.0 s", "5.0 s"]),
        ([2.0, 59.96, 127.0], ["0:02", "1:00", "2:07"]),
        ([59.96, 60.5], ["1:00.0", "1:00.5"]),
        ([7.0, 3599.7, 3723.0], ["0:00:07", "1:00:00", "1:02:03"]),
    ],
)
def test_times_and_percentages(times, texts):
    assert figure.format_times(times) == texts
    percents = {0: "0.0%", 0.0004: "<0.1%", 0.0005: "0.1%", 0.9994: "99.9%", 0.99951: ">99.9%", 1: "100.0%"}
    assert [figure.format_percent(score) for score in percents] == list(percents.values())


@pytest.mark.parametrize("scores", [[], [{"label": "a", "score": 1.5}], [*SCORES, {"label": "b", "score": np.nan}]])
def test_scores_that_cannot_be_drawn(scores):
    with pytest.raises(ValueError, match="`scores`"):
        figure.draw_answer(frames(2), None, scores)
    with pytest.raises(ValueError):
        figure.draw_answer(frames(2), [0.0], SCORES)
