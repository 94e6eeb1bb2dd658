"""Fixtures of the tiny training, which runs once."""

from pathlib import Path

import pytest
from tiny_models import letter_tokenizer
from tiny_training import arguments, save_start

from vitaclip_hf.cli.main import main
from vitaclip_hf.training import run as train_script


@pytest.fixture(scope="session")
def start(tmp_path_factory) -> Path:
    return save_start(tmp_path_factory.mktemp("start"), letter_tokenizer())


@pytest.fixture(scope="session")
def whole_run(start, videos, tmp_path_factory) -> Path:
    """Four steps without interruption, data loaded by two workers."""
    output = tmp_path_factory.mktemp("whole")
    assert train_script.train(arguments(start, videos, output, "--dataloader_num_workers", "2")) == 0
    return output


@pytest.fixture(autouse=True)
def no_curves(monkeypatch):
    """Their picture takes a quarter of a tiny training; `whole_run` has one."""
    monkeypatch.setattr(train_script, "plot_curves", lambda *_: None)


@pytest.fixture
def error_line(capsys):
    """Runs the command, which must fail; returns the one line that says why."""

    def run(given: list[str]) -> str:
        assert main(["train", *given]) == 2
        (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("vitaclip train: ")]
        return line

    return run
