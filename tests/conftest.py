"""Fixtures of all tests: tokenizer, golden cases, commands that are refused."""

import gc
import os
import re
from pathlib import Path

import pytest
from huggingface_hub import constants
from tiny_models import GOLDEN_CASES, GoldenCase, openai_tokenizer
from tiny_training import write_videos
from transformers import CLIPTokenizer

from vitaclip_hf import load_checkpoint
from vitaclip_hf.cli.main import main


LONGEST = [
    *("test_hub", "test_readme", "test_wheel", "test_mteb", "test_store", "test_distributed_training"),
    *("test_training_checkpoints", "test_clip_streams", "test_relevance", "test_demo", "test_training"),
    *("test_tracing", "test_pipelines", "test_timeline", "test_startup", "test_odd_names", "test_families"),
]


def pytest_configure(config):
    """Nothing is fetched in tests: an id that is no folder fails at once.

    Registers the marks of transformers' own tests (tests/contract), which differ from version to version.
    """
    os.environ["HF_HUB_OFFLINE"] = "1"
    constants.HF_HUB_OFFLINE = True
    for file in Path(__file__).parent.glob("contract/.transformers-*/transformers_tests/*.py"):
        for mark in sorted(set(re.findall(r"\bmark\.([a-z_0-9]+)", file.read_text()))):
            config.addinivalue_line("markers", f"{mark}: of transformers' own tests")


def pytest_collection_finish():
    """What the imports made is not searched for garbage again and again: each training collects, in a large heap."""
    gc.collect()
    gc.freeze()


def pytest_collection_modifyitems(items):
    """The files that take longest come first, so that no worker is left with one of them at the end."""
    items.sort(key=lambda item: LONGEST.index(item.path.stem) if item.path.stem in LONGEST else len(LONGEST))


@pytest.fixture(scope="session")
def tokenizer() -> CLIPTokenizer:
    return openai_tokenizer()


@pytest.fixture(scope="session")
def tokenizer_folder(tokenizer, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("tokenizer")
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def videos(tmp_path_factory) -> Path:
    """Three classes of four short videos each, where a room has no others."""
    return write_videos(tmp_path_factory.mktemp("videos"))


@pytest.fixture(scope="session")
def checkpoint():
    """The demo's, for tests that do not change it."""
    return load_checkpoint(Path(__file__).parents[1] / "examples" / "demo" / "checkpoint")


@pytest.fixture(scope="session")
def world():
    """The demo's things and scenes."""
    from world import World  # takes long where there are no other imports of torchvision

    return World()


@pytest.fixture
def refused(capsys):
    """Runs a command that cannot start: exit code 2, nothing on stdout, and one line on stderr, which is returned."""

    def run(*arguments) -> str:
        assert main([str(argument) for argument in arguments]) == 2
        printed = capsys.readouterr()
        assert printed.out == "" and printed.err.count("\n") == 1, printed
        return printed.err

    return run


@pytest.fixture(scope="session")
def golden_cases(tmp_path_factory) -> dict[str, GoldenCase]:
    return {name: GoldenCase(name, tmp_path_factory.mktemp(name)) for name in GOLDEN_CASES}
