"""The sampling rules, against numbers worked out by hand and against the released code's formula."""

import pytest

from vitaclip_hf import ClipSpecification


def sample_clips(total: int, *settings, seed: int | None = None, **named) -> list[list[int]]:
    return ClipSpecification(*settings, **named).frame_numbers(total, seed)


def test_uniform_takes_segment_centres():
    assert sample_clips(32, 8) == [[2, 6, 10, 14, 18, 22, 26, 30]]
    assert sample_clips(10, 4) == [[1, 3, 6, 8]]  # segments of 2.5: centres 1.25, 3.75, 6.25, 8.75
    assert sample_clips(300, 1) == [[150]]
    assert sample_clips(8, 8) == [list(range(8))]


def test_uniform_views_share_the_segments():
    # Segments of 8: two views stand at a quarter and three quarters of each.
    assert sample_clips(32, 4, num_views=2) == [[2, 10, 18, 26], [6, 14, 22, 30]]


@pytest.mark.parametrize("sampling", ["uniform", "dense", "segment_random", "dense_random"])
def test_short_videos_repeat_their_last_frame(sampling):
    clips = sample_clips(3, 5, sampling, 1, 2, seed=0)
    assert clips == [[0, 1, 2, 2, 2]] * 2


def released_views(total: int, frames: int, stride: int, views: int) -> list[list[int]]:
    """The released code: a view spans (F-1)*stride+1 frames; short ones repeat their last; views from 0 to the end."""
    padded = list(range(total))
    span = (frames - 1) * stride + 1
    while len(padded) < span:
        padded.append(total - 1)
    slide = len(padded) - span
    starts = [slide // 2] if views == 1 else [round(slide / (views - 1) * i) for i in range(views)]
    return [padded[start : start + span : stride] for start in starts]


@pytest.mark.parametrize("total", [1, 2, 50, 112, 113, 114, 115, 250, 300])
@pytest.mark.parametrize("views", [1, 2, 3, 4])
def test_dense_is_the_released_rule(total, views):
    assert sample_clips(total, 8, "dense", 16, views) == released_views(total, 8, 16, views)


def test_random_segments_stay_in_their_segments_and_reach_all_of_them():
    seen = set()
    for seed in range(200):
        (clip,) = sample_clips(40, 4, "segment_random", seed=seed)
        assert [index // 10 for index in clip] == [0, 1, 2, 3]
        seen.update(clip)
    assert seen == set(range(40))


def test_random_starts_reach_both_ends():
    starts = {sample_clips(20, 4, "dense_random", 4, seed=seed)[0][0] for seed in range(200)}
    assert starts == set(range(8))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0, 8), "`total` must be at least 1"),
        ((10, 0), "`num_frames` must be a whole number of at least 1"),
        ((10, 8, "dense", 0), "`frame_stride` must be a whole number"),
        ((10, 8, "uniform", 1, 0), "`num_views` must be a whole number"),
        ((10, "8"), "`num_frames` must be a whole number"),
        ((10, 8, "dense", 16, 10**7), "`num_frames` times `num_views` must be at most 4,096"),
        ((10, 10**400), "must be at most 4,096"),
        ((10, 8, "random"), "`sampling` must be one of uniform, dense"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        sample_clips(*arguments)
