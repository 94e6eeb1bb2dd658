"""The script that fetches transformers' common tests."""

import tarfile
from importlib.metadata import version
from io import BytesIO

import pytest
from fetch_transformers_tests import FILES, extract


def write_sdist(path, found_version):
    contents = {"PKG-INFO": f"Name: transformers\nVersion: {found_version}\n"}
    contents |= {f"tests/{name}": f"# {name}\n" for name in (*FILES, "test_other_common.py")}
    with tarfile.open(path, "w:gz") as sdist:
        for name, text in contents.items():
            member = tarfile.TarInfo(f"transformers-{found_version}/{name}")
            member.size = len(text)
            sdist.addfile(member, BytesIO(text.encode()))
    return path


def test_only_the_needed_tests_are_extracted_and_git_ignores_them(tmp_path):
    extract(write_sdist(tmp_path / "sdist.tar.gz", version("transformers")), tmp_path)
    package = tmp_path / "transformers_tests"
    assert {file.name for file in package.iterdir()} == {"__init__.py", *FILES}
    assert all((package / name).read_text() == f"# {name}\n" for name in FILES)
    assert (tmp_path / ".gitignore").read_text() == "*\n"


def test_another_version_is_refused(tmp_path):
    with pytest.raises(SystemExit, match=f"holds transformers 4.0.0, but {version('transformers')} is installed"):
        extract(write_sdist(tmp_path / "sdist.tar.gz", "4.0.0"), tmp_path)
