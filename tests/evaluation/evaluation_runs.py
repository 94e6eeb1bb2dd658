"""The checkpoint and the scenes of the tests of this room, and an evaluation without its command."""

from pathlib import Path

from world import TRAINED_MOTIONS, Scene

from vitaclip_hf.evaluation.progress_log import EvaluationLog


CHECKPOINT = Path(__file__).parents[2] / "examples" / "demo" / "checkpoint"
SCENES = [Scene("rocket", motion) for motion in TRAINED_MOTIONS]


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
