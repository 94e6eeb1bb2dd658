"""The checkpoint and the scenes of the tests of this room, and an evaluation without its command."""

from pathlib import Path

from vitaclip_hf.data.motion_shapes import all_scenes
from vitaclip_hf.evaluation.progress_log import EvaluationLog


CHECKPOINT = Path(__file__).parents[2] / "examples" / "demo" / "checkpoint"
SCENES = all_scenes(held_out=True)[:10]  # one object, ten motions


def start(evaluator, folder, **options):
    """The log of an evaluation, and the batches that are to do."""
    log = EvaluationLog(folder, evaluator.setup)
    log.write_setup()
    return log, evaluator.pending_batches(log, **options)


def run_all(evaluator, folder) -> dict:
    """The results of all videos by name."""
    log, batches = start(evaluator, folder)
    for _ in evaluator.run(batches, log):
        pass
    log.read()
    return log.finished
