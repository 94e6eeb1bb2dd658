"""Videos, checkpoint and a finished evaluation, for the tests of this room."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from accelerate import PartialState
from evaluation_runs import SCENES, run_all
from world import draw_videos

from vitaclip_hf.data.video_writing import write_video
from vitaclip_hf.evaluation.evaluator import Evaluator
from vitaclip_hf.evaluation.plan import plan_evaluation
from vitaclip_hf.evaluation.protocols import load_protocol
from vitaclip_hf.evaluation.report import write_report


@pytest.fixture(scope="session")
def videos(world, tmp_path_factory) -> Path:
    """Ten readable videos, one damaged and one missing, with a list of them and of half of them."""
    folder = tmp_path_factory.mktemp("videos")
    for index, frames in enumerate(draw_videos(world, SCENES, torch.Generator().manual_seed(5), size=112)):
        write_video(folder / f"{index}.mp4", frames.numpy())
    content = (folder / "3.mp4").read_bytes()
    (folder / "damaged.mp4").write_bytes(content[: len(content) // 2])
    names = [*(f"{index}.mp4 {index}" for index in range(10)), "damaged.mp4 3", "missing.mp4 4"]
    lists = folder / "lists"
    lists.mkdir()
    (lists / "mini_val1.txt").write_text("\n".join(names) + "\n")
    (lists / "mini_val2.txt").write_text("\n".join(names[::2]) + "\n")
    (lists / "classes.txt").write_text("".join(f"{scene.label.replace(' ', '_')}\n" for scene in SCENES))
    (lists / "mini.yaml").write_text(
        'lists: ["mini_val{split}.txt"]\nclasses: [classes.txt]\nnum_frames: 8\nsampling: uniform\nframe_stride: 16\n'
        'num_views: 2\ntemplates: ["{}"]\nexpected_videos: {1: 12, 2: 6}\ntasks:\n  zero-shot:\n    splits: [1, 2]\n'
        "    published: 48.6 (a paper)\n"
    )
    return folder


@pytest.fixture(scope="session")
def plan(videos):
    return plan_evaluation(load_protocol(str(videos / "lists" / "mini.yaml")), videos, videos / "lists")


@pytest.fixture(scope="session")
def one_thread():
    """As the ranks of the tests have: bytes are compared, and the last digits of sums depend on the threads."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def finished(plan, checkpoint, one_thread, tmp_path_factory) -> SimpleNamespace:
    """One uninterrupted evaluation with batches of 5 (the last one not full): its folder, its videos, results.json."""
    folder = tmp_path_factory.mktemp("finished") / "results"
    evaluator = Evaluator(checkpoint, plan, batch_size=5)
    finished = run_all(evaluator, folder)
    return SimpleNamespace(folder=folder, videos=finished, results=write_report(folder, evaluator, finished, "it"))


@pytest.fixture
def fresh_process_state():
    """accelerate keeps its state in the class; the next test starts without it."""
    yield
    PartialState._reset_state()
