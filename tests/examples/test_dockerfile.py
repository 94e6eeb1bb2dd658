"""The Dockerfile of the server: what it copies exists and is all that the wheel needs, and its command is one."""

import json
import re
from pathlib import Path

import typer
import yaml

from vitaclip_hf.cli.main import app


ROOT = Path(__file__).parents[2]
LINES = re.sub(r"\\\n\s*", "", (ROOT / "examples" / "serve" / "Dockerfile").read_text()).splitlines()


def arguments_of(instruction: str) -> list[str]:
    return [line.split(" ", 1)[1] for line in LINES if line.startswith(instruction + " ")]


def test_what_is_copied_exists_and_is_all_that_the_wheel_is_made_of():
    copied = [source for line in arguments_of("COPY") for source in line.split()[:-1]]
    assert all((ROOT / source).exists() for source in copied)
    settings = (ROOT / "pyproject.toml").read_text()
    packages = {name.split(".")[0] for name in re.findall(r'^    "(vitaclip_hf[\w.]*)",$', settings, re.M)}
    moved = set(re.findall(r'"vitaclip_hf\.\w+" = "(\w+)"', settings))
    assert packages == {"vitaclip_hf"} and moved == {"configuration", "conversion"}
    assert packages | moved | {"pyproject.toml", "README.md", "LICENSE"} <= set(copied)


def test_its_command_listens_where_the_health_check_asks_as_no_root():
    program, name, *options = json.loads(arguments_of("ENTRYPOINT")[0])
    assert (program, name) == ("vitaclip", "serve")
    parsed = typer.main.get_command(app).commands["serve"].make_context("serve", options).params
    assert parsed["host"] == "0.0.0.0" and [str(parsed["port"])] == arguments_of("EXPOSE")
    [check] = arguments_of("HEALTHCHECK")
    program, flag, code = yaml.safe_load(check.split("CMD ")[1])
    compile(code, "health check", "exec")
    assert (program, flag) == ("python", "-c") and f"http://127.0.0.1:{parsed['port']}/health" in code
    places = arguments_of("COPY")[-1].split()
    assert places == ["examples/demo/checkpoint", parsed["model"]]
    assert arguments_of("USER")[0] not in ("root", "0")
    assert f"useradd --system --uid 10001 --no-create-home {arguments_of('USER')[0]}" in "\n".join(LINES)
    assert re.search(r'pip install "\.\[serve\]"', "\n".join(LINES))
