"""mteb is optional: without it, what needs it says so."""

import runpy
import sys
from pathlib import Path

import pytest


SCRIPT = Path(__file__).parents[2] / "examples" / "run_mteb.py"


@pytest.fixture
def no_mteb(monkeypatch):
    for name in [name for name in sys.modules if name.split(".")[0] == "mteb"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.delitem(sys.modules, "vitaclip_hf.evaluation.mteb", raising=False)
    monkeypatch.setitem(sys.modules, "mteb", None)


def test_the_script_says_what_to_install(no_mteb, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["run_mteb", "--model", "any", "--tasks", "HMDB51ZeroShot"])
    assert runpy.run_path(str(SCRIPT))["main"]() == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and error.startswith("run_mteb: ") and 'pip install "mteb>=2.26"' in error


def test_the_package_does_not_need_it(no_mteb):
    import vitaclip_hf.evaluation.evaluator  # noqa: F401  the adapter is its only user of mteb

    with pytest.raises(ImportError, match="Python 3.11 or newer"):
        import vitaclip_hf.evaluation.mteb  # noqa: F401
