"""Writes generated frames as a video file."""

from pathlib import Path

import av
import numpy as np


def write_video(path: str | Path, frames: np.ndarray, fps: int = 16) -> None:
    """
    Writes frames as H.264 in MP4.

    Args:
        path (`str` or `Path`): the file to write.
        frames (`np.ndarray` of shape `(num_frames, height, width, 3)`): uint8, RGB, with even height and width.
        fps (`int`, defaults to 16): frames per second.

    Raises:
        ValueError: frames of another type or shape.
    """
    frames = np.asarray(frames)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=fps, options={"crf": "20", "preset": "medium"})
        stream.height, stream.width, stream.pix_fmt = frames.shape[1], frames.shape[2], "yuv420p"
        for picture in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
