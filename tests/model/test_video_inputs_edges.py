"""Frames in memory that are no video."""

import numpy as np
import pytest

from vitaclip_hf.model.video_inputs import to_frames, video_from


@pytest.mark.parametrize("make", [to_frames, video_from])
def test_an_empty_list_is_no_video(make):
    with pytest.raises(ValueError, match="at least one frame, got an empty list"):
        make([])


def test_numbers_that_torch_has_not():
    if np.dtype(np.longdouble).itemsize == 8:
        pytest.skip("this machine has no longer numbers")
    with pytest.raises(TypeError, match="Frames must hold numbers, got an array of"):
        to_frames(np.ones((1, 2, 2, 3), np.longdouble))
