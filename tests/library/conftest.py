"""The demo checkpoint, for the tests of this room."""

from pathlib import Path

import pytest

from vitaclip_hf import load_checkpoint


@pytest.fixture(scope="session")
def checkpoint():
    return load_checkpoint(Path(__file__).parents[2] / "examples" / "demo" / "checkpoint")
