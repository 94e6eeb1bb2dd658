"""Fixtures of all tests: tokenizer, golden cases, scripts in a process of their own."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from tiny_models import GOLDEN_CASES, GoldenCase, openai_tokenizer
from transformers import CLIPTokenizer


def pytest_configure(config):
    """Registers the marks of transformers' own tests (tests/contract), which differ from version to version."""
    for file in Path(__file__).parent.glob("contract/.transformers-*/transformers_tests/*.py"):
        for mark in sorted(set(re.findall(r"\bmark\.([a-z_0-9]+)", file.read_text()))):
            config.addinivalue_line("markers", f"{mark}: of transformers' own tests")


@pytest.fixture(scope="session")
def tokenizer() -> CLIPTokenizer:
    return openai_tokenizer()


@pytest.fixture(scope="session")
def tokenizer_folder(tokenizer, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("tokenizer")
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def golden_cases(tmp_path_factory) -> dict[str, GoldenCase]:
    return {name: GoldenCase(name, tmp_path_factory.mktemp(name)) for name in GOLDEN_CASES}


@pytest.fixture
def run_script():
    """Runs a script of the repository in a process of its own; returns the finished process."""

    def run(*arguments):
        command = [sys.executable, *map(str, arguments)]
        root = Path(__file__).parent.parent
        # Nothing is fetched in tests: an id that is no folder fails at once.
        environment = os.environ | {"HF_HUB_OFFLINE": "1", "PYTHONPATH": str(root)}
        return subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=300, env=environment)

    return run
