"""Publishing and loading through the real Hub client, against a local server that answers as the Hub does."""

import hashlib
import json
import os
import pickle
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from hub_server import TOKEN, HubServer
from huggingface_hub import ModelCard, constants, repocard
from huggingface_hub.utils import get_session
from safetensors.torch import load_file, save_file
from tiny_models import tiny_model
from transformers import AutoModel

from vitaclip_hf import (
    VitaClipForVideoClassification,
    VitaClipModel,
    VitaClipProcessor,
    VitaClipVideoProcessor,
    save_prompts,
)
from vitaclip_hf.cli.main import main
from vitaclip_hf.conversion import folder_outputs, hub_folder, publish


ROOT = Path(__file__).parents[2]
REPO = "test-org/vita-clip-tiny"
MEBIBYTE = 1 << 20


@pytest.fixture(scope="module")
def checkpoint(tokenizer, tmp_path_factory) -> Path:
    """A tiny random model as training leaves it: model, processor, tokenizer. Over 10 MiB, so that a resumed download
    has a beginning to keep (the client writes in pieces of that size)."""
    folder = tmp_path_factory.mktemp("checkpoint")
    model = tiny_model(text={"hidden_size": 64}, tokenizer=tokenizer)
    model.save_pretrained(folder)
    size = {"height": 32, "width": 32}
    video_processor = VitaClipVideoProcessor(num_frames=4, size={"shortest_edge": 32}, crop_size=size)
    VitaClipProcessor(video_processor, tokenizer).save_pretrained(folder)
    (folder / "card.yaml").write_text("license: mit\n")
    return folder


@pytest.fixture(scope="module")
def video(tmp_path_factory) -> Path:
    file = tmp_path_factory.mktemp("video") / "noise.mp4"
    publish.write_test_video(file, 12, 32)
    return file


@pytest.fixture(scope="module")
def expected(checkpoint, video) -> dict[str, torch.Tensor]:
    """What the checkpoint itself computes, in this process, with the package."""
    return folder_outputs.collect_outputs(str(checkpoint), str(video), trust_remote_code=None)


@pytest.fixture(scope="module")
def folder(checkpoint, tmp_path_factory) -> Path:
    """The published folder: built and checked by `vitaclip publish` without a token."""
    output = tmp_path_factory.mktemp("published") / "folder"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(publish, "get_token", lambda: None)
        assert run_publish(checkpoint, "--output", output) == 0
    return output


@pytest.fixture(scope="module")
def server():
    with HubServer() as hub:
        yield hub


def run_publish(checkpoint, *arguments, repo=REPO) -> int:
    return main(["publish", str(checkpoint), "--repo-id", repo, *map(str, arguments)])


def environment(server, home: Path, **changes: str) -> dict[str, str]:
    """Of a user whose Hub is the server; nothing of this process's Hub settings, nor its PYTHONPATH."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "PYTHONPATH"))}
    hub = {"HF_ENDPOINT": server.url, "HF_HOME": str(home), "HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}
    # Asking a service on the Internet to convert a pickle is transformers' own idea.
    hub["DISABLE_SAFETENSORS_CONVERSION"] = "1"
    return kept | hub | {"OMP_NUM_THREADS": str(torch.get_num_threads())} | changes


def client(server, home: Path, task: dict, tmp_path: Path, **changes: str) -> dict:
    """Runs hub_client.py as that user."""
    task = {"path": [str(ROOT / "conversion")], "repo": REPO} | task
    if not task["without_package"]:
        task["path"].append(str(ROOT))
    (tmp_path / "task.json").write_text(json.dumps(task))
    command = [sys.executable, "-I", str(Path(__file__).with_name("hub_client.py")), str(tmp_path / "task.json")]
    result = subprocess.run(
        command, env=environment(server, home, **changes), cwd=tmp_path, capture_output=True, text=True, timeout=300
    )
    assert result.returncode == 0, result.stderr
    answer = json.loads(result.stdout.splitlines()[-1])
    assert answer["package"] is not task["without_package"]
    return answer


def card_code(files: dict[str, bytes], video: Path, with_package: bool) -> list[str]:
    """The card's Python code as it stands, with our video; the blocks that use the package, or those that do not."""
    blocks = re.findall(r"```python\n(.*?)```", files["README.md"].decode(), re.S)
    wanted = [block for block in blocks if ("import vitaclip_hf" in block) is with_package]
    return [block.replace('"my.mp4"', repr(str(video))) for block in wanted]


def assert_same(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    assert sorted(found) == sorted(expected)
    assert [name for name in expected if not torch.equal(found[name], expected[name])] == []


# The folder


def test_files_of_the_folder(folder, checkpoint):
    names = sorted(file.name for file in folder.iterdir())
    modules = [name for name in names if name.endswith(".py")]
    others = ["LICENSE", "README.md", "config.json", "model.safetensors", "processor_config.json", "tokenizer.json"]
    others += ["tokenizer_config.json", "checksums.json"]
    others += ["config_sentence_transformers.json", "modules.json", "sentence_bert_config.json"]
    assert [name for name in names if name not in modules] == sorted(others)
    for name in modules:
        assert (folder / name).read_text() == (ROOT / "vitaclip_hf" / "model" / name).read_text()
    config = json.loads((folder / "config.json").read_text())
    processor = json.loads((folder / "processor_config.json").read_text())
    assert processor["auto_map"]["AutoProcessor"] == config["auto_map"]["AutoProcessor"]
    assert not {"is_local", "local_files_only"} & set(json.loads((folder / "tokenizer_config.json").read_text()))
    tasks = config["custom_pipelines"]
    assert sorted(tasks) == ["video-classification", "zero-shot-video-classification"]
    for reference in [*config["auto_map"].values(), *(task["impl"] for task in tasks.values())]:
        module, name = reference.split(".")
        assert f"class {name}(" in (folder / f"{module}.py").read_text()
    stored, published = load_file(checkpoint / "model.safetensors"), load_file(folder / "model.safetensors")
    assert_same(published, stored)
    assert (folder / "LICENSE").read_bytes() == (ROOT / "LICENSE").read_bytes()


def test_report_and_dry_run(checkpoint, capsys, monkeypatch, tmp_path):
    monkeypatch.setattr(publish, "get_token", lambda: TOKEN)
    monkeypatch.setattr(publish, "check_folder", lambda *_: [])
    monkeypatch.setattr(publish, "upload", lambda *_: pytest.fail("pushed without --push"))
    assert run_publish(checkpoint, "--output", tmp_path / "out") == 0
    report = capsys.readouterr().out
    content = (tmp_path / "out" / "model.safetensors").read_bytes()
    assert f"{hashlib.sha256(content).hexdigest()}  {len(content):>13,}  model.safetensors" in report
    assert "Dry run, nothing pushed" in report and "add --push" in report
    assert run_publish(checkpoint, "--push", "--dry-run") == 0
    assert f"to publish as {REPO}, leave out --dry-run." in capsys.readouterr().out


def test_a_dry_run_needs_no_token_and_no_licence(checkpoint, capsys, monkeypatch, tmp_path):
    monkeypatch.setattr(publish, "get_token", lambda: None)
    monkeypatch.setattr(publish, "check_folder", lambda *_: [])
    folder = broken_checkpoint(checkpoint, tmp_path / "unstated", "card.yaml", None)
    assert run_publish(folder, "--push", "--dry-run", "--output", tmp_path / "out") == 0
    steps = "run `hf auth login`, then state the weights' licence by --license, then leave out --dry-run."
    assert capsys.readouterr().out.endswith(f"to publish as {REPO}, {steps}\n")
    assert ModelCard.load(tmp_path / "out" / "README.md").data.license is None
    assert run_publish(folder, "--license", "mit") == 0
    assert capsys.readouterr().out.endswith(f"to publish as {REPO}, run `hf auth login`, then add --push.\n")


def test_a_difference_in_the_last_bit_is_found(expected):
    for name, tensor in expected.items():
        changed = tensor.clone()
        changed.view(-1)[-1] = (
            torch.nextafter(tensor.view(-1)[-1], torch.tensor(9.0).to(tensor)) if tensor.is_floating_point() else 1
        )
        with pytest.raises(publish.PublishError, match=rf"^the folder computes something else there: {name} differ"):
            publish.compare_outputs(expected, expected | {name: changed}, "there")
    with pytest.raises(publish.PublishError, match="logits differ"):
        publish.compare_outputs(expected, {k: v for k, v in expected.items() if k != "logits"}, "there")
    publish.compare_outputs(expected, dict(expected), "there")


def test_a_folder_that_computes_something_else_is_not_published(checkpoint, capsys, monkeypatch, tmp_path):
    """The check compares, it does not only load: code in the folder that differs by a factor is found."""
    original = publish.build

    def build(checkpoint, folder, max_shard_size):
        made = original(checkpoint, folder, max_shard_size)
        code = folder / "modeling_vita_clip.py"
        code.write_text(code.read_text().replace("self.logit_scale.exp()", "(1.0001 * self.logit_scale).exp()"))
        return made

    monkeypatch.setattr(publish, "build", build)
    monkeypatch.setattr(publish, "get_token", lambda: TOKEN)
    monkeypatch.setattr(publish, "upload", lambda *_: pytest.fail("pushed all the same"))
    assert run_publish(checkpoint, "--push", "--output", tmp_path / "out") == 2
    error = capsys.readouterr().err
    assert "computes something else without the package: class_scores, logits, logits_per_video" in error
    assert not (tmp_path / "out").exists()


# Loading from the Hub


def test_without_the_package_over_a_broken_connection(server, folder, video, expected, tmp_path):
    server.add(REPO, folder)
    server.cut["model.safetensors"] = 12 * MEBIBYTE
    server.requests.clear()
    task = {"without_package": True, "outputs": str(tmp_path / "outputs.safetensors"), "video": str(video)}
    task["resave"] = str(tmp_path / "resaved")
    task["code"] = card_code(server.repositories[REPO].files(), video, with_package=False)
    printed = client(server, tmp_path / "home", task, tmp_path)["printed"]
    assert_same(load_file(tmp_path / "outputs.safetensors"), expected)
    assert len(printed) == 1 and re.match(r"\[\{'score': .*'label': '(archery|riding a bike)'\}\]\n$", printed[0])
    gets = [request for request in server.requests if request.method == "GET" and "model.safetensors" in request.path]
    assert [request.range for request in gets] == [None, f"bytes={10 * MEBIBYTE}-"]
    stored = next((tmp_path / "home").rglob("snapshots/*/model.safetensors"))
    assert stored.read_bytes() == (folder / "model.safetensors").read_bytes()
    # Loaded by the folder's own code and saved again, the new folder has that code too.
    assert_same(load_file(tmp_path / "resaved.safetensors"), expected)


def test_saved_again_with_the_package(folder, tmp_path):
    """The package goes before the folder's code, and what it saves points to no code that is not there."""
    model = AutoModel.from_pretrained(folder)
    assert type(model) is VitaClipModel
    model.save_pretrained(tmp_path)
    assert not {"auto_map", "custom_pipelines"} & set(json.loads((tmp_path / "config.json").read_text()))
    assert_same(load_file(tmp_path / "model.safetensors"), load_file(folder / "model.safetensors"))


class Payload:
    """A pickle that writes a file when it is loaded."""

    def __init__(self, file: Path):
        self.file = file

    def __reduce__(self):
        return os.mkdir, (str(self.file),)


def damaged_repositories(server, folder: Path, payload: bytes, tmp_path: Path) -> dict[str, str]:
    """Repositories that must not load, and what the error has to say."""
    content = (folder / "model.safetensors").read_bytes()
    weights = load_file(folder / "model.safetensors")
    save_file(weights | {"visual_projection.weight": torch.zeros(3, 5)}, tmp_path / "shape.safetensors")
    del weights["text_projection.weight"]
    save_file(weights, tmp_path / "missing.safetensors")
    cases = {
        "corrupted": ({"model.safetensors": b"\xff" * 8 + content[8:]}, "damaged or incomplete"),
        "truncated": ({"model.safetensors": content[: len(content) // 2]}, "damaged or incomplete"),
        "shape": (
            {"model.safetensors": (tmp_path / "shape.safetensors").read_bytes()},
            "visual_projection.weight has the shape [3, 5], the configuration asks for [24, 48]",
        ),
        "missing": (
            {"model.safetensors": (tmp_path / "missing.safetensors").read_bytes()},
            "text_projection.weight is missing",
        ),
        "no-weights": ({"model.safetensors": None}, "model.safetensors"),
        "no-config": ({"config.json": None}, "config.json"),
        "pickle": ({"model.safetensors": None, "pytorch_model.bin": payload}, "model.safetensors"),
    }
    for name, (changes, _) in cases.items():
        server.add(f"test-org/{name}", folder, **changes)
    return {f"test-org/{name}": message for name, (_, message) in cases.items()} | {"test-org/nobody": "not a valid"}


@dataclass
class PackageSession:
    """What one process with the package met: an author's push, then loading it, and repositories that are damaged."""

    push: subprocess.CompletedProcess
    outputs: dict[str, torch.Tensor]
    home: Path
    cases: dict[str, str]
    answer: dict
    payload: bytes
    executed: Path


PUSHED = "test-org/pushed"


@pytest.fixture(scope="module")
def session(server, checkpoint, folder, video, tmp_path_factory) -> PackageSession:
    tmp_path = tmp_path_factory.mktemp("session")
    command = [sys.executable, "-m", "vitaclip_hf.cli", "publish", str(checkpoint), "--repo-id", PUSHED, "--push"]
    command += ["--max-shard-size", "8MB", "--commit-message", "All of it"]
    settings = environment(server, tmp_path / "author", HF_TOKEN=TOKEN, PYTHONPATH=str(ROOT))
    push = subprocess.run(command, env=settings, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert push.returncode == 0, push.stderr
    payload = pickle.dumps(Payload(tmp_path / "executed"))
    cases = damaged_repositories(server, folder, payload, tmp_path)
    outputs = tmp_path / "outputs.safetensors"
    task = {"without_package": False, "repo": PUSHED, "video": str(video), "outputs": str(outputs)}
    task["attempts"] = list(cases)
    task["code"] = card_code(server.repositories[PUSHED].files(), video, with_package=True)
    answer = client(server, tmp_path / "home", task, tmp_path)
    return PackageSession(push, load_file(outputs), tmp_path / "home", cases, answer, payload, tmp_path / "executed")


def test_push_is_one_commit(server, session):
    repository, report = server.repositories[PUSHED], session.push.stdout
    assert repository.messages == ["initial commit", "All of it"]
    assert f"Pushed in one commit: {server.url}/{PUSHED}/commit/{repository.branches['main']}" in report
    files = repository.files()
    for name in set(files) - {".gitattributes"}:
        assert f"{hashlib.sha256(files[name]).hexdigest()}  {len(files[name]):>13,}  {name}" in report
    posts = [request for request in server.requests if request.method == "POST" and PUSHED in request.path]
    assert posts and all(request.authorization == f"Bearer {TOKEN}" for request in posts)


def test_with_the_package_and_no_trust_in_shards_then_offline(server, session, video, expected, tmp_path):
    shards = [name for name in server.repositories[PUSHED].files() if name.endswith(".safetensors")]
    assert len(shards) >= 2
    assert_same(session.outputs, expected)
    server.requests.clear()
    task = {"without_package": False, "repo": PUSHED, "video": str(video), "outputs": str(tmp_path / "offline")}
    client(server, session.home, task, tmp_path, HF_HUB_OFFLINE="1")
    assert_same(load_file(tmp_path / "offline"), expected)
    assert server.requests == []


def test_code_of_the_card_runs_as_it_stands(session):
    zero_shot, closed_set = session.answer["printed"]
    assert re.match(r"\[\{'score': .*'label': '(archery|riding a bike)'\}\]\n$", zero_shot)
    assert sorted(re.findall(r"'label': '([^']*)'", closed_set)) == ["archery", "riding a bike", "tai chi"]


def test_damage_is_one_clear_error(session):
    for repo, message in session.cases.items():
        kind, text = session.answer["attempts"][repo]
        assert kind in ("OSError", "CheckpointError", "CheckpointMismatchError"), (repo, kind, text)
        assert repo in text and message in text, (repo, text)


def test_no_pickle_is_loaded(server, session):
    assert not [request for request in server.requests if request.path.endswith("pytorch_model.bin")]
    assert not session.executed.exists()
    pickle.loads(session.payload)
    assert session.executed.exists(), "the payload would have shown"


# Publishing again, and what stands in the way


@pytest.fixture
def quick_push(server, monkeypatch):
    """Pushing from this process to the server, without the check that other tests run."""
    monkeypatch.setattr(constants, "ENDPOINT", server.url)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr(publish, "check_folder", lambda *_: [])
    monkeypatch.setattr(publish, "get_token", lambda: TOKEN)
    return server


def test_no_push_without_a_stated_licence(quick_push, checkpoint, capsys, tmp_path):
    repo = "test-org/licensed"
    folder = broken_checkpoint(checkpoint, tmp_path / "unstated", "card.yaml", None)
    assert run_publish(folder, "--push", repo=repo) == 2
    error = capsys.readouterr().err
    assert error.startswith("vitaclip publish: --push needs the licence of the weights") and error.count("\n") == 1
    assert str(folder / "card.yaml") in error and repo not in quick_push.repositories
    assert run_publish(folder, "--push", "--license", "cc-by-nc", repo=repo) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert (
        error.startswith(f"vitaclip publish: the Hub refused the card of {repo}")
        and '"license" must be one of' in error
    )
    for source, arguments, stated in (
        (folder, ["--license", "cc-by-nc-4.0"], "cc-by-nc-4.0"),
        (checkpoint, [], "mit"),
        (checkpoint, ["--license", "cc-by-nc-4.0"], "cc-by-nc-4.0"),
    ):
        assert run_publish(source, "--push", *arguments, repo=repo) == 0
        card = quick_push.repositories[repo].files()["README.md"].decode()
        assert ModelCard(card).data.license == stated


def test_pushing_again_leaves_no_old_weights(quick_push, checkpoint):
    repo = "test-org/again"
    assert run_publish(checkpoint, "--push", "--max-shard-size", "8MB", repo=repo) == 0
    assert run_publish(checkpoint, "--push", "--revision", "whole", repo=repo) == 0
    repository = quick_push.repositories[repo]
    assert len(repository.messages) == 3  # the repository's own, and one for each push
    assert "model.safetensors.index.json" in repository.files("main")
    weights = [name for name in repository.files("whole") if "safetensors" in name]
    assert weights == ["model.safetensors"]


@pytest.mark.parametrize(
    ("repo", "token", "endpoint", "message"),
    [
        (REPO, "hf_of_somebody_else", None, "the Hub refused test-org/.*401"),
        ("forbidden-org/model", TOKEN, None, "the Hub refused forbidden-org/.*403"),
        (REPO, TOKEN, "http://127.0.0.1:9", "cannot be reached"),
        (REPO, None, None, "--push needs a token"),
        ("no-organisation", TOKEN, None, "give it as ORG/NAME"),
        ("test-org/bad name", TOKEN, None, "--repo-id 'test-org/bad name'"),
    ],
)
def test_refusals_are_one_line(quick_push, checkpoint, capsys, monkeypatch, repo, token, endpoint, message):
    monkeypatch.setattr(publish, "get_token", lambda: token)
    if endpoint:
        monkeypatch.setattr(constants, "ENDPOINT", endpoint)
    before = {name: len(repository.commits) for name, repository in quick_push.repositories.items()}
    assert run_publish(checkpoint, "--push", repo=repo) == 2
    error = capsys.readouterr().err
    lines = [line for line in error.splitlines() if line.startswith("vitaclip publish: ")]
    assert len(lines) == 1 and re.search(message, lines[0]) and "Traceback" not in error
    assert {name: len(repository.commits) for name, repository in quick_push.repositories.items()} == before


def broken_checkpoint(checkpoint: Path, folder: Path, name: str, content: bytes | None) -> Path:
    folder.mkdir()
    for file in checkpoint.iterdir():
        if file.name != name:
            (folder / file.name).symlink_to(file)
    if content is not None:
        (folder / name).write_bytes(content)
    return folder


def test_bad_checkpoints_are_one_line(checkpoint, capsys, tmp_path):
    content = (checkpoint / "model.safetensors").read_bytes()
    weights = load_file(checkpoint / "model.safetensors")
    save_file(weights | {"visual_projection.weight": torch.zeros(3, 5)}, tmp_path / "shape")
    save_file(weights | {"another.weight": torch.zeros(3)}, tmp_path / "unknown")
    del weights["vision_model.time_embedding.weight"]
    save_file(weights, tmp_path / "missing")
    cases = [
        ("model.safetensors", b"\xff" * 8 + content[8:], "damaged or cut short"),
        ("model.safetensors", content[:-10], "damaged or cut short"),
        ("model.safetensors", None, "there is no model.safetensors"),
        ("model.safetensors", (tmp_path / "shape").read_bytes(), "visual_projection.weight has the shape [3, 5]"),
        ("model.safetensors", (tmp_path / "unknown").read_bytes(), "another.weight has no place"),
        ("model.safetensors", (tmp_path / "missing").read_bytes(), "vision_model.time_embedding.weight is missing"),
        ("config.json", b"{", "config.json: not readable as JSON"),
        ("config.json", b'{"model_type": "clip"}', "its model_type is 'clip'"),
        ("processor_config.json", None, "there is no processor_config.json"),
        ("processor_config.json", b"[]", "expected a JSON object, found list"),
        ("tokenizer_config.json", None, "there is no tokenizer_config.json"),
    ]
    for number, (name, replaced, message) in enumerate(cases):
        folder = broken_checkpoint(checkpoint, tmp_path / str(number), name, replaced)
        assert run_publish(folder) == 2
        error = capsys.readouterr().err
        line = error.splitlines()[-1]
        assert line.startswith("vitaclip publish: ") and message in line, (name, error)
    pickled = broken_checkpoint(checkpoint, tmp_path / "pickles", "model.safetensors", None)
    (pickled / "pytorch_model.bin").write_bytes(pickle.dumps(Payload(tmp_path / "executed")))
    prompts = broken_checkpoint(checkpoint, tmp_path / "prompts", "model.safetensors", None)
    (prompts / "prompts.safetensors").write_bytes(content)
    shards = broken_checkpoint(checkpoint, tmp_path / "shards", "model.safetensors", None)
    (shards / "model.safetensors.index.json").write_text('{"weight_map": {"a": "model-00001-of-00002.safetensors"}}')
    folders = {
        tmp_path / "nowhere": "no such folder",
        shards: "model-00001-of-00002.safetensors",
        pickled: "pytorch_model.bin may execute code",
        prompts: "prompts.safetensors without prompt_config.json",
    }
    for folder, message in folders.items():
        assert run_publish(folder) == 2
        assert message in capsys.readouterr().err
    assert not (tmp_path / "executed").exists()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "notes.txt").write_text("mine")
    assert run_publish(checkpoint, "--output", tmp_path / "full") == 2
    assert "already there" in capsys.readouterr().err


# The card


@dataclass
class RedirectedSession:
    """huggingface_hub 1.x validates cards at huggingface.co, whatever HF_ENDPOINT says."""

    server: HubServer

    def post(self, url: str, **arguments):
        return get_session().post(url.replace("https://huggingface.co", self.server.url), **arguments)


def test_card_validates_on_the_hub(quick_push, folder, monkeypatch):
    monkeypatch.setattr(repocard, "get_session", lambda: RedirectedSession(quick_push))
    card = ModelCard.load(folder / "README.md")
    card.validate()
    assert quick_push.requests[-1].path == "/api/validate-yaml"
    with pytest.raises(ValueError, match="errors"):
        ModelCard("---\nlicense: our own\n---\nAn unknown licence.").validate()


# Other versions


@pytest.mark.slow
@pytest.mark.skipif("OTHER_PYTHON" not in os.environ, reason="OTHER_PYTHON names no interpreter with other versions")
def test_loads_under_another_version(folder, video, expected, tmp_path):
    """With the oldest or newest supported transformers in OTHER_PYTHON: the same folder, by its own code."""
    script = ROOT / "conversion" / "folder_outputs.py"
    command = [os.environ["OTHER_PYTHON"], "-I", str(script), "--folder", str(folder), "--video", str(video)]
    command += ["--output", str(tmp_path / "outputs"), "--without-package"]
    settings = {"HF_HUB_OFFLINE": "1", "HF_MODULES_CACHE": str(tmp_path / "modules")}
    result = subprocess.run(command, env=os.environ | settings, cwd=tmp_path, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    found = load_file(tmp_path / "outputs")
    assert sorted(found) == sorted(expected)
    for name, tensor in expected.items():
        torch.testing.assert_close(found[name], tensor, rtol=0, atol=1e-4)


def test_from_the_authors_file_to_a_published_folder(golden_cases, tokenizer_folder, run_script, tmp_path):
    """The commands of the README, as they stand there but for the names."""
    case = golden_cases["all_prompts_csc_end"]
    convert = ["-m", "vitaclip_hf.cli", "convert", "original", case.checkpoint, "--classes", case.classes]
    convert += ["--output", tmp_path / "checkpoint", "--tokenizer", tokenizer_folder]
    convert += ["--vision-heads", case.settings["num_heads"], "--text-heads", case.settings["text_transformer_heads"]]
    converted = run_script(*convert)
    assert converted.returncode == 0, converted.stderr
    arguments = ["publish", tmp_path / "checkpoint", "--repo-id", "ORG/NAME", "--output", tmp_path / "folder"]
    published = run_script("-m", "vitaclip_hf.cli", *arguments)
    assert published.returncode == 0, published.stderr
    assert "Checked: bit-identical outputs" in published.stdout and "Dry run, nothing pushed" in published.stdout
    card = (tmp_path / "folder" / "README.md").read_text()
    assert 'model="ORG/NAME"' in card and "Not recorded beside this checkpoint." in card
    assert "The licence of the weights is not stated" in card and "license:" not in card


def test_pushing_deletes_nothing_of_somebody_else(quick_push, checkpoint, tmp_path, capsys):
    """Only weights by the very names that publishing writes, at the root, and the report says which."""
    repo = "test-org/shared"
    others = ["prompts/prompts.safetensors", "app/train.py", "adapter.safetensors", "train.py", "old/model.safetensors"]
    shards = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors", "model.safetensors.index.json"]
    (tmp_path / "empty").mkdir()
    quick_push.add(repo, tmp_path / "empty", **dict.fromkeys([*others, *shards], b"1"))
    assert run_publish(checkpoint, "--push", repo=repo) == 0
    files = quick_push.repositories[repo].files()
    assert set(others) <= set(files) and not set(shards) & set(files)
    assert f"Deleted with it, weights of an earlier publication: {', '.join(sorted(shards))}" in capsys.readouterr().out


def test_bad_options_are_one_line(checkpoint, capsys, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("mine")
    cases = [(["--max-shard-size", size], f"--max-shard-size {size}") for size in ("5XB", "0", "0GB", "GB")]
    cases += [(["--output", tmp_path / "file" / "x"], f"{tmp_path / 'file'} is a file")]
    for arguments, message in cases:
        assert run_publish(checkpoint, *arguments) == 2
        error = capsys.readouterr().err
        assert error.startswith("vitaclip publish: ") and message in error and error.count("\n") == 1, error
    monkeypatch.setattr(hub_folder.metadata, "distributions", lambda name: [])
    assert run_publish(checkpoint) == 2
    assert "has lost its LICENSE file" in capsys.readouterr().err


@pytest.fixture(scope="module")
def prompts_alone(checkpoint, tokenizer, tmp_path_factory) -> Path:
    """What `train.py --prompts_only` leaves, on a CLIP that lies beside it."""
    clip, folder = tmp_path_factory.mktemp("clip"), tmp_path_factory.mktemp("prompts")
    tiny_model(text={"hidden_size": 64}).save_pretrained(clip)
    save_prompts(VitaClipForVideoClassification.from_pretrained(checkpoint), folder, base=clip)
    for name in ("processor_config.json", "tokenizer.json", "tokenizer_config.json", "card.yaml"):
        (folder / name).write_bytes((checkpoint / name).read_bytes())
    return folder


def test_prompts_alone_are_published_as_a_whole_model(prompts_alone, folder, tmp_path, capsys):
    before = sorted(prompts_alone.iterdir())
    assert run_publish(prompts_alone, "--output", tmp_path / "out") == 0
    assert "Checked: bit-identical outputs" in capsys.readouterr().out
    assert sorted(prompts_alone.iterdir()) == before
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == sorted(file.name for file in folder.iterdir())
    for file in folder.iterdir():
        if file.name != "README.md":  # its example
            assert (tmp_path / "out" / file.name).read_bytes() == file.read_bytes(), file.name
    assert ModelCard.load(tmp_path / "out" / "README.md").data.license == "mit"


def test_prompts_alone_that_cannot_be_published_are_one_line(prompts_alone, capsys, tmp_path):
    record = json.loads((prompts_alone / "prompt_config.json").read_text())
    elsewhere = json.dumps(record | {"base_model": "../moved"}).encode()
    cases = [
        ("processor_config.json", None, "there is no processor_config.json; save model and processor there first"),
        ("tokenizer_config.json", None, "there is no tokenizer_config.json"),
        ("prompt_config.json", b"{", "prompt_config.json: damaged"),
        ("prompt_config.json", elsewhere, "The base model .*moved cannot be loaded"),
        ("prompts.safetensors", b"1", "prompts.safetensors: damaged"),
    ]
    for number, (name, content, message) in enumerate(cases):
        broken = broken_checkpoint(prompts_alone, tmp_path / str(number), name, content)
        assert run_publish(broken) == 2
        line = capsys.readouterr().err.splitlines()[-1]
        assert line.startswith(f"vitaclip publish: CHECKPOINT {broken}: ") and re.search(message, line), (name, line)


def rewritten(checkpoint: Path, folder: Path, name: str, change) -> Path:
    content = json.loads((checkpoint / name).read_text())
    change(content)
    return broken_checkpoint(checkpoint, folder, name, json.dumps(content).encode())


def test_checkpoints_that_do_not_run_are_one_line(checkpoint, capsys, tmp_path, tokenizer):
    shared = broken_checkpoint(checkpoint, tmp_path / "shared", "model.safetensors", None)
    (shared / "config.json").unlink()
    tiny_model(text={"hidden_size": 64, "class_specific_context": False}).save_pretrained(shared)
    kinds = {}
    for name, dtype in (("visual_projection.weight", torch.int64), ("class_prompts.class_input_ids", torch.float32)):
        weights = load_file(checkpoint / "model.safetensors")
        weights[name] = weights[name].to(dtype)
        save_file(weights, tmp_path / "weights", metadata={"format": "pt"})
        content = (tmp_path / "weights").read_bytes()
        kinds[name] = broken_checkpoint(checkpoint, tmp_path / name, "model.safetensors", content)
    index = broken_checkpoint(checkpoint, tmp_path / "index", "model.safetensors", None)
    (index / "model.safetensors.index.json").write_text('{"weight_map": []}')
    changes = [
        (
            "config.json",
            lambda c: c.update(id2label={"0": "a", "2": "b", "3": "c"}),
            "config.json.*`id2label`.*0, 2, 3",
        ),
        ("config.json", lambda c: c["vision_config"].update(num_frames="8"), "config.json: no configuration"),
        ("processor_config.json", lambda c: c["video_processor"].update(crop_size=[1]), "CHECKPOINT"),
        (
            "processor_config.json",
            lambda c: c["video_processor"].update(crop_size={"height": 16, "width": 16}),
            "model and processor do not run together",
        ),
    ]
    cases = [(shared, "do not run together.*have no names yet"), (index, "index.json: no index of shards")]
    cases += [(kinds[name], f"{name} is stored as") for name in kinds]
    cases += [(rewritten(checkpoint, tmp_path / f"{n}", *change), m) for n, (*change, m) in enumerate(changes)]
    for folder, message in cases:
        assert run_publish(folder) == 2
        line = capsys.readouterr().err.splitlines()[-1]
        assert line.startswith("vitaclip publish: ") and re.search(message, line), (folder, line)


def test_one_whole_file_goes_before_an_index(checkpoint, tmp_path):
    folder = broken_checkpoint(checkpoint, tmp_path / "both", "model.safetensors.index.json", b"{}")
    assert hub_folder.weight_files(folder) == [folder / "model.safetensors"]
