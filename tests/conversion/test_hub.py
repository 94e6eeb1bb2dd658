"""Publishing and loading through the real Hub client, against a local server that answers as the Hub does."""

import hashlib
import io
import json
import os
import pickle
import re
import subprocess
import sys
from contextlib import redirect_stdout
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from hub_server import TOKEN, local_hub
from huggingface_hub import ModelCard, constants
from payload import Payload
from safetensors.torch import load_file, save_file
from tiny_models import tiny_model, tiny_processor
from transformers import AutoModel

from vitaclip_hf import (
    CheckpointError,
    VitaClipForVideoClassification,
    VitaClipModel,
    load_checkpoint,
    save_checkpoint,
    save_prompts,
)
from vitaclip_hf.cli.main import main
from vitaclip_hf.conversion import folder_outputs, publish


ROOT = Path(__file__).parents[2]
REPO, SHARDED = "test-org/vita-clip-tiny", "test-org/sharded"


@pytest.fixture(scope="module")
def checkpoint(tokenizer, tmp_path_factory) -> Path:
    """A tiny random model as training leaves it, in bfloat16: model, processor, tokenizer."""
    folder = tmp_path_factory.mktemp("checkpoint")
    tiny_model(text={"hidden_size": 64}, tokenizer=tokenizer).bfloat16().save_pretrained(folder)
    tiny_processor(tokenizer).save_pretrained(folder)
    (folder / "card.yaml").write_text("license: mit\n")
    return folder


@pytest.fixture(scope="module")
def video(tmp_path_factory) -> Path:
    """That of the check."""
    file = tmp_path_factory.mktemp("video") / "noise.mp4"
    publish.write_test_video(file, 8, 32)
    return file


@pytest.fixture(scope="module")
def expected(checkpoint, video) -> dict[str, torch.Tensor]:
    """What the checkpoint itself computes, in this process, with the package."""
    return folder_outputs.collect_outputs(str(checkpoint), str(video), trust_remote_code=None)


@pytest.fixture(scope="module")
def server():
    with local_hub() as hub:
        yield hub


@pytest.fixture(scope="module")
def published(server, checkpoint, tmp_path_factory) -> SimpleNamespace:
    """Built, checked and pushed by `vitaclip publish`, the only test of many that waits for the check."""
    folder = tmp_path_factory.mktemp("published") / "folder"
    with redirect_stdout(io.StringIO()) as report:
        assert run_publish(checkpoint, "--push", "--output", folder, "--commit-message", "All of it") == 0
    return SimpleNamespace(folder=folder, report=report.getvalue())


@pytest.fixture
def unchecked(server, monkeypatch):
    """The server, and publishing without the check."""
    monkeypatch.setattr(publish, "check_folder", lambda *_: None)
    return server


def run_publish(checkpoint, *arguments, repo=REPO) -> int:
    return main(["publish", "--model", str(checkpoint), "--repo-id", repo, *map(str, arguments)])


def client(server, home: Path, task: dict, tmp_path: Path) -> str:
    """Runs hub_client.py as a user whose Hub is the server, without this process's Hub settings and PYTHONPATH."""
    (tmp_path / "task.json").write_text(json.dumps(task))
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "PYTHONPATH"))}
    environment |= {"HF_ENDPOINT": server.url, "HF_HOME": str(home), "HF_HUB_DISABLE_XET": "1"}
    environment |= {"HF_HUB_DISABLE_TELEMETRY": "1", "OMP_NUM_THREADS": str(torch.get_num_threads())}
    command = [sys.executable, "-I", str(Path(__file__).with_name("hub_client.py")), str(tmp_path / "task.json")]
    result = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    answer = json.loads(result.stdout.splitlines()[-1])
    assert answer["package"] is False
    return answer["printed"]


def card_code(folder: Path, video: Path, with_package: bool) -> list[str]:
    """The card's Python code as it stands, with our video; the blocks that use the package, or those that do not."""
    blocks = re.findall(r"```python\n(.*?)```", (folder / "README.md").read_text(), re.S)
    wanted = [block for block in blocks if ("import vitaclip_hf" in block) is with_package]
    return [block.replace('"my.mp4"', repr(str(video))) for block in wanted]


def printed_by(code: str) -> str:
    with redirect_stdout(io.StringIO()) as printed:
        exec(code, {})
    return printed.getvalue()


def assert_same(outputs: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    assert sorted(outputs) == sorted(expected)
    assert [name for name in expected if not torch.equal(outputs[name], expected[name])] == []


def changed(checkpoint: Path, folder: Path, **files: bytes | None) -> Path:
    """A copy of a checkpoint with other files; None removes one. Names have `__` for a dot."""
    replaced = {name.replace("__", "."): content for name, content in files.items()}
    folder.mkdir()
    for file in checkpoint.iterdir():
        if file.name not in replaced:
            os.link(file, folder / file.name)
    for name, content in replaced.items():
        if content is not None:
            (folder / name).write_bytes(content)
    return folder


def error_line(capsys) -> str:
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("vitaclip publish: ")]
    return line


# The folder


def test_files_of_the_folder(published, checkpoint):
    folder = published.folder
    names = {file.name for file in folder.iterdir()}
    modules = {name for name in names if name.endswith(".py")}
    expected = "LICENSE README.md checksums.json config.json model.safetensors processor_config.json tokenizer.json"
    expected += " tokenizer_config.json config_sentence_transformers.json modules.json sentence_bert_config.json"
    assert names - modules == set(expected.split())
    for name in modules:
        assert (folder / name).read_text() == (ROOT / "vitaclip_hf" / "model" / name).read_text()
    config = json.loads((folder / "config.json").read_text())
    processor = json.loads((folder / "processor_config.json").read_text())
    assert processor["auto_map"]["AutoProcessor"] == config["auto_map"]["AutoProcessor"]
    assert not {"is_local", "local_files_only"} & set(json.loads((folder / "tokenizer_config.json").read_text()))
    tasks = config["custom_pipelines"]
    assert list(tasks) == ["zero-shot-video-classification"]
    for reference in [*config["auto_map"].values(), *(task["impl"] for task in tasks.values())]:
        module, name = reference.split(".")
        assert f"class {name}(" in (folder / f"{module}.py").read_text()
    assert_same(load_file(folder / "model.safetensors"), load_file(checkpoint / "model.safetensors"))
    assert (folder / "LICENSE").read_bytes() == (ROOT / "LICENSE").read_bytes()


def test_push_is_one_commit(server, published):
    repository = server.repositories[REPO]
    assert repository.messages == ["initial commit", "All of it"]
    assert f"Pushed in one commit: {server.url}/{REPO}/commit/{repository.branches['main']}" in published.report
    files = {name: content for name, content in repository.files().items() if name != ".gitattributes"}
    assert files == {file.name: file.read_bytes() for file in published.folder.iterdir()}
    for name, content in files.items():
        assert f"{hashlib.sha256(content).hexdigest()}  {len(content):>13,}  {name}" in published.report
    posts = [request for request in server.requests if request.method == "POST" and REPO in request.path]
    assert posts and all(request.authorization == f"Bearer {TOKEN}" for request in posts)


def test_without_push_nothing_is_uploaded(unchecked, checkpoint, capsys, monkeypatch, tmp_path):
    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setattr(publish, "upload", lambda *_: pytest.fail("pushed without --push"))
    folder = changed(checkpoint, tmp_path / "unstated", card__yaml=None)
    assert run_publish(folder, "--output", tmp_path / "out") == 0
    assert "Nothing pushed" in capsys.readouterr().out
    assert ModelCard.load(tmp_path / "out" / "README.md").data.license is None


def test_a_difference_in_the_last_bit_is_found(expected):
    publish.compare_outputs(expected, dict(expected), "there")
    for name, tensor in expected.items():
        other = tensor.clone()
        last = other.view(-1)[-1]
        last.fill_(torch.nextafter(last, torch.tensor(9.0).to(last)) if last.is_floating_point() else 1)
        with pytest.raises(ValueError, match=f": {name}"):
            publish.compare_outputs(expected, expected | {name: other}, "there")
    with pytest.raises(ValueError, match="logits"):
        publish.compare_outputs(expected, {k: v for k, v in expected.items() if k != "logits"}, "there")
    endless = {"logits": torch.tensor([float("inf")])}
    with pytest.raises(ValueError, match="logits"):
        publish.compare_outputs(endless, endless, "there")


def test_a_folder_that_computes_something_else_is_not_published(
    server, checkpoint, expected, capsys, monkeypatch, tmp_path
):
    """The check compares, it does not only load."""
    other = expected | {"logits": expected["logits"] * 1.01}
    monkeypatch.setattr(publish, "outputs_without_package", lambda *_: other)
    monkeypatch.setattr(publish, "upload", lambda *_: pytest.fail("pushed all the same"))
    assert run_publish(checkpoint, "--push", "--output", tmp_path / "out") == 2
    assert re.search("without the package: logits differ", error_line(capsys))
    with pytest.raises(ValueError, match="runs/missing: no such folder"):  # paths may be strings
        publish.publish("runs/missing", "ORG/NAME", output=str(tmp_path / "out"))
    views = load_checkpoint(checkpoint)
    views.processor.video_processor.num_views = 2
    save_checkpoint(views.model, views.processor, tmp_path / "views")
    with pytest.raises(ValueError, match="several views.*`num_views=1`"):
        publish.publish(tmp_path / "views", "ORG/NAME")
    assert not (tmp_path / "out").exists()


# Loading from the Hub


def test_without_the_package(server, published, checkpoint, video, expected, tmp_path):
    (code,) = card_code(published.folder, video, with_package=False)
    task = {"path": str(ROOT / "conversion"), "repo": REPO, "video": str(video), "code": code}
    task |= {"outputs": str(tmp_path / "outputs.safetensors"), "resave": str(tmp_path / "resaved")}
    task["texts"] = ["archery", "riding a bike"] if find_spec("sentence_transformers") else []
    printed = client(server, tmp_path / "home", task, tmp_path)
    model = VitaClipForVideoClassification.from_pretrained(checkpoint, dtype=torch.float32).eval()
    with torch.no_grad():
        class_scores = model(expected["pixel_values_videos"]).logits[0].softmax(-1).tolist()
    outputs = load_file(tmp_path / "outputs.safetensors")
    if task["texts"]:  # of sentence-transformers
        loaded = load_checkpoint(checkpoint)
        with torch.no_grad():
            own = loaded.model(**loaded.processor(videos=[str(video)], text=task["texts"], return_tensors="pt"))
        torch.testing.assert_close(outputs.pop("text_vectors"), own.text_embeds, atol=1e-6, rtol=0)
        torch.testing.assert_close(outputs.pop("video_vectors"), own.video_embeds, atol=1e-6, rtol=0)
    assert_same(outputs, expected)
    assert outputs["class_scores"].tolist() == pytest.approx(class_scores, abs=1e-6)
    assert re.match(r"\[\{'score': .*'label': '(archery|riding a bike)'\}\]\n$", printed)
    stored = next((tmp_path / "home").rglob("snapshots/*/model.safetensors"))
    assert stored.read_bytes() == (published.folder / "model.safetensors").read_bytes()
    # Loaded by the folder's own code and saved again, the new folder has that code too.
    assert_same(load_file(tmp_path / "resaved.safetensors"), expected)


def test_saved_again_with_the_package(published, tmp_path):
    """The package goes before the folder's code, and what it saves points to no code that is not there."""
    model = AutoModel.from_pretrained(published.folder)
    assert type(model) is VitaClipModel
    model.save_pretrained(tmp_path)
    assert not {"auto_map", "custom_pipelines"} & set(json.loads((tmp_path / "config.json").read_text()))
    assert_same(load_file(tmp_path / "model.safetensors"), load_file(published.folder / "model.safetensors"))


def test_with_the_package_in_shards_then_offline(
    unchecked, published, checkpoint, video, expected, tmp_path, monkeypatch
):
    """No trust is asked for; damaged repositories are one clear error; no pickle is loaded."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("DISABLE_SAFETENSORS_CONVERSION", "1")  # transformers would ask a service on the Internet
    assert run_publish(checkpoint, "--push", "--max-shard-size", "4MB", repo=SHARDED) == 0
    assert sum(name.endswith(".safetensors") for name in unchecked.repositories[SHARDED].files()) >= 2
    assert_same(folder_outputs.collect_outputs(SHARDED, str(video), None), expected)
    (code,) = card_code(published.folder, video, with_package=True)
    zero_shot, closed_set = printed_by(code).splitlines()
    assert re.fullmatch(r"\[\{'score': .*'label': '(archery|riding a bike)'\}\]", zero_shot)
    assert sorted(re.findall(r"'label': '([^']*)'", closed_set)) == ["archery", "riding a bike", "tai chi"]
    weights, content = load_file(checkpoint / "model.safetensors"), (checkpoint / "model.safetensors").read_bytes()
    del weights["text_projection.weight"]
    save_file(weights, tmp_path / "missing.safetensors")
    executed = tmp_path / "executed"
    pickled = pickle.dumps(Payload(executed))
    damaged = {
        "test-org/corrupted": ({"model.safetensors": b"\xff" * 8 + content[8:]}, "damaged"),
        "test-org/missing": ({"model.safetensors": (tmp_path / "missing.safetensors").read_bytes()}, "text_projection"),
        "test-org/no-config": ({"config.json": None}, "config.json"),
        "test-org/pickle": ({"model.safetensors": None, "pytorch_model.bin": pickled}, "model.safetensors"),
    }
    for name, (changes, _) in damaged.items():
        unchecked.add(name, published.folder, **changes)
    for name, (_, text) in (damaged | {"test-org/nobody": ({}, "")}).items():
        with pytest.raises((OSError, CheckpointError), match=f"(?s)^(?=.*{name}).*{text}"):
            load_checkpoint(name)
    assert not [request for request in unchecked.requests if request.path.endswith("pytorch_model.bin")]
    assert not executed.exists()
    unchecked.requests.clear()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert_same(folder_outputs.collect_outputs(SHARDED, str(video), None), expected)
    assert unchecked.requests == []


# Publishing again, and what stands in the way


def test_no_push_without_a_stated_licence(unchecked, checkpoint, capsys, tmp_path):
    repo = "test-org/licensed"
    folder = changed(checkpoint, tmp_path / "unstated", card__yaml=None)
    assert run_publish(folder, "--push", repo=repo) == 2
    error = error_line(capsys)
    assert "--license" in error and str(folder / "card.yaml") in error and repo not in unchecked.repositories
    assert run_publish(folder, "--push", "--license", "cc-by-nc", repo=repo) == 2
    assert '"license" must be one of' in error_line(capsys)
    assert run_publish(folder, "--push", "--license", "cc-by-nc-4.0", repo=repo) == 0
    card = unchecked.repositories[repo].files()["README.md"].decode()
    assert ModelCard(card).data.license == "cc-by-nc-4.0"


def test_pushing_again_deletes_old_weights_and_nothing_of_somebody_else(unchecked, checkpoint, tmp_path):
    """Only weights by the very names that publishing writes, at the root."""
    repo = "test-org/again"
    others = ["prompts/prompts.safetensors", "app/train.py", "adapter.safetensors", "train.py", "old/model.safetensors"]
    shards = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors", "model.safetensors.index.json"]
    (tmp_path / "empty").mkdir()
    unchecked.add(repo, tmp_path / "empty", **dict.fromkeys([*others, *shards], b"1"))
    assert run_publish(checkpoint, "--push", "--revision", "whole", repo=repo) == 0
    repository = unchecked.repositories[repo]
    assert set(repository.files("main")) == {*others, *shards}
    assert set(others) <= set(repository.files("whole")) and not set(shards) & set(repository.files("whole"))


@pytest.mark.parametrize(
    ("repo", "token", "endpoint", "message"),
    [
        (REPO, "hf_of_somebody_else", None, f"{REPO}.*401"),
        (REPO, TOKEN, "http://127.0.0.1:9", "127.0.0.1:9"),
        (REPO, "", None, "--push needs a token"),
        ("no-organisation", TOKEN, None, "--repo-id 'no-organisation'"),
        ("test-org/bad name", TOKEN, None, "test-org/bad name"),
    ],
)
def test_refusals_are_one_line(unchecked, checkpoint, capsys, monkeypatch, repo, token, endpoint, message):
    monkeypatch.setenv("HF_TOKEN", token)
    if endpoint:
        monkeypatch.setattr(constants, "ENDPOINT", endpoint)
    before = {name: len(repository.commits) for name, repository in unchecked.repositories.items()}
    assert run_publish(checkpoint, "--push", repo=repo) == 2
    assert re.search(message, error_line(capsys))
    assert {name: len(repository.commits) for name, repository in unchecked.repositories.items()} == before


def test_bad_checkpoints_are_one_line(unchecked, checkpoint, capsys, tmp_path):
    crop = json.loads((checkpoint / "processor_config.json").read_text())
    crop["video_processor"]["crop_size"] = [1]
    pickled = {"model__safetensors": None, "pytorch_model__bin": pickle.dumps(Payload(tmp_path / "executed"))}
    cases = [
        ({"config__json": b'{"model_type": "clip"}'}, "clip"),
        ({"processor_config__json": json.dumps(crop).encode()}, "processor"),
        (pickled, "model.safetensors"),
    ]
    folders = {changed(checkpoint, tmp_path / str(n), **files): message for n, (files, message) in enumerate(cases)}
    for folder, message in (folders | {tmp_path / "nowhere": "no such folder"}).items():
        assert run_publish(folder) == 2
        error = error_line(capsys)
        assert str(folder) in error and message in error, error
    assert not (tmp_path / "executed").exists()


def test_bad_options_are_one_line(unchecked, checkpoint, capsys, tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")  # another folder cannot take the place of the current one
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "notes.txt").write_text("mine")
    (tmp_path / "empty").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "empty")  # a folder cannot take its place
    for value in (tmp_path / "full", ".", tmp_path / "link"):
        assert run_publish(checkpoint, "--output", value) == 2
        error = error_line(capsys)
        assert "--output" in error and str(value) in error
    assert run_publish(checkpoint, "--max-shard-size", "5XB") == 2 and "XB" in error_line(capsys)


def test_prompts_alone_are_published_as_a_whole_model(unchecked, checkpoint, published, tmp_path):
    """What training leaves with `--prompts-only`, on a CLIP beside it: byte by byte the whole model's folder."""
    clip, folder, out = tmp_path / "clip", tmp_path / "prompts", tmp_path / "out"
    tiny_model(text={"hidden_size": 64}).save_pretrained(clip)
    save_prompts(VitaClipForVideoClassification.from_pretrained(checkpoint), folder, base=clip)
    for name in ("processor_config.json", "tokenizer.json", "tokenizer_config.json", "card.yaml"):
        (folder / name).write_bytes((checkpoint / name).read_bytes())
    assert run_publish(folder, "--output", out) == 0
    names = sorted(file.name for file in published.folder.iterdir())
    assert sorted(file.name for file in out.iterdir()) == names
    assert [n for n in names if (out / n).read_bytes() != (published.folder / n).read_bytes()] == []
