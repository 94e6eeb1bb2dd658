"""A decoder for the server's tests that hangs or crashes; processes import it, so it imports little."""

import os
import time
from pathlib import Path

from vitaclip_hf.server.decoding import Clip, _read


def read(path: str, max_frame_pixels: int) -> Clip:
    content = Path(path).read_bytes()
    if content == b"hang":
        time.sleep(600)
    if content == b"crash":
        os.abort()
    return _read(path, max_frame_pixels)
