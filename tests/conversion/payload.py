"""A pickle that shows that it was loaded with code allowed."""

import os
from pathlib import Path


class Payload:
    """Makes a folder when it is unpickled."""

    def __init__(self, trace: Path):
        self.trace = trace

    def __reduce__(self):
        return os.mkdir, (str(self.trace),)
