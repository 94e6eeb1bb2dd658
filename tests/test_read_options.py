"""Every reading option that is saved in a processor reaches the opening of a file, whatever tool opens it."""

from dataclasses import fields
from pathlib import Path

import pytest
from tiny_models import letter_tokenizer
from tiny_training import arguments, save_start
from transformers import pipeline

from vitaclip_hf import ReadOptions, VitaClipProcessor, load_checkpoint
from vitaclip_hf.cli.main import main
from vitaclip_hf.model import decoding


UNUSUAL = ReadOptions(
    decoder="pyav", verify="full", on_damage="skip", pixel_aspect="coded", max_seconds=50.0, max_bytes=1 << 29,
    max_frame_pixels=1_000_000, max_download_bytes=1 << 20, download_seconds=7.0, allow_private_addresses=False,
)  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A tiny checkpoint with three classes whose processor has unusual reading options."""
    path = save_start(tmp_path_factory.mktemp("checkpoint") / "folder", letter_tokenizer())
    processor = VitaClipProcessor.from_pretrained(path)
    for field in fields(ReadOptions):
        assert getattr(UNUSUAL, field.name) != field.default, "each option must differ from its default"
        setattr(processor.video_processor, field.name, getattr(UNUSUAL, field.name))
    processor.save_pretrained(path)
    assert VitaClipProcessor.from_pretrained(path).video_processor.read_options == UNUSUAL
    return path


@pytest.fixture
def opened(monkeypatch) -> list[ReadOptions]:
    """The options with which sources are opened."""
    seen: list[ReadOptions] = []
    original = decoding.opened_source
    monkeypatch.setattr(decoding, "opened_source", lambda file, given: seen.append(given) or original(file, given))
    return seen


def by_pipeline(folder: Path, videos: Path, output: Path) -> None:
    classifier = pipeline("zero-shot-video-classification", model=str(folder), device="cpu")
    classifier(str(videos / "left" / "0.mp4"), candidate_labels=["a", "b"])


def by_command(name: str, *options: str):
    def run(folder: Path, videos: Path, output: Path) -> None:
        video = videos / ("left/0.mp4" if name in ("classify", "timeline", "explain") else "left")
        assert main([name, str(video), "--model", str(folder), *(part.format(output=output) for part in options)]) == 0

    return run


def by_training(folder: Path, videos: Path, output: Path) -> None:
    from vitaclip_hf.training import run

    one_step = ("--max_steps", "1", "--gradient_accumulation_steps", "1")
    assert run.train(arguments(folder, videos, output / "run", *one_step)) == 0


def by_evaluation(folder: Path, videos: Path, output: Path) -> None:
    (output / "list.txt").write_text("left/0.mp4 left\ngrowing/0.mp4 growing\nblinking/0.mp4 blinking\n")
    (output / "mini.yaml").write_text(
        "lists: [list.txt]\nnum_frames: 4\nsampling: uniform\nframe_stride: 1\nnum_views: 1\n"
        'templates: ["{}"]\ntasks:\n  zero-shot: {}\n'
    )
    options = ["--model", folder, "--protocol", output / "mini.yaml", "--videos", videos, "--annotations", output]
    assert main(["evaluate", *map(str, options), "--output", str(output / "results"), "--workers", "0"]) == 0


def by_mteb(folder: Path, videos: Path, output: Path) -> None:
    pytest.importorskip("mteb")
    from mteb_encoder import MtebEncoder, read_rows

    read_rows([{"video": str(videos / "left" / "0.mp4"), "text": None}], MtebEncoder(str(folder)).reader)


def by_server(folder: Path, videos: Path, output: Path) -> None:
    testclient = pytest.importorskip("fastapi.testclient")
    from vitaclip_hf.server.app import Limits, create_app

    sizes = {"decoded_bytes": UNUSUAL.max_bytes, "frame_pixels": UNUSUAL.max_frame_pixels}
    limits = Limits(**sizes, decode_seconds=UNUSUAL.max_seconds, wait_seconds=300)
    with testclient.TestClient(create_app(load_checkpoint(folder), limits)) as client:
        files = {"video": ("clip.mp4", (videos / "left" / "0.mp4").read_bytes())}
        assert client.post("/classify", files=files, data={"labels": ["a", "b"]}).status_code == 200


TOOLS = {
    "pipeline": by_pipeline,
    "classify": by_command("classify", "--labels", "a,b"),
    "timeline": by_command("timeline", "--labels", "a,b"),
    "explain": by_command("explain", "--label", "a", "--output", "{output}/map.json"),
    "index": by_command("index", "--output", "{output}/index"),
    "embed": by_command("embed", "--output", "{output}/vectors"),
    "train": by_training,
    "evaluate": by_evaluation,
    "mteb": by_mteb,
    "server": by_server,
}


@pytest.mark.parametrize("tool", TOOLS)
def test_saved_options_reach_the_opening(tool, folder, videos, tmp_path, opened):
    TOOLS[tool](folder, videos, tmp_path)
    assert opened and all(options == UNUSUAL for options in opened)
