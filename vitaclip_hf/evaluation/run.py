"""Evaluates a Vita-CLIP checkpoint under a protocol; interrupted, the same command goes on where it was.

accelerate launch examples/evaluate.py --model M --protocol hmdb51-zero-shot --videos DIR --annotations DIR
accelerate launch examples/evaluate.py --model M --protocol own-zero-shot --videos DIR     (a folder for each class)

Protocols are in configuration/protocols/; frames, views, texts and splits are arguments here too, --views 4
--templates "a {}." …; for other lists or expected counts write a file of your own.
Several processes: `accelerate launch --num_processes N` on GPUs, `torchrun --nproc_per_node N` on a CPU; all of them
have to see the output folder. What is written there is listed in vitaclip_hf/evaluation_report.py.
"""

import argparse
import shlex
import sys
from datetime import timedelta
from pathlib import Path

import torch
from accelerate import PartialState
from accelerate.utils import parse_flag_from_env
from tqdm import tqdm
from transformers.utils.logging import disable_progress_bar

from ..data.annotations import AnnotationError
from ..model.checkpoint import CheckpointError, load_checkpoint
from .evaluator import EvaluationError, Evaluator
from .log import EvaluationLog, SetupMismatchError
from .plan import plan_evaluation
from .protocols import Protocol, ProtocolError, load_protocol
from .report import write_report


USER_ERRORS = (
    AnnotationError,
    CheckpointError,
    EvaluationError,
    ImportError,
    OSError,
    ProtocolError,
    SetupMismatchError,
)
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
FIELDS = {
    "frames": int,
    "stride": int,
    "sampling": str,
    "views": int,
    "spatial_views": int,
    "templates": list,
    "spelling": str,
    "text": str,
    "splits": list,
    "subset": str,
    "shots": int,
}


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="Vita-CLIP folder or id")
    parser.add_argument("--revision", help="of the model on the Hub")
    parser.add_argument("--protocol", required=True, help="its name, or FILE.yaml:TASK")
    parser.add_argument("--videos", required=True, help="folder of the videos")
    parser.add_argument("--annotations", help="folder of the protocol's lists, or one list")
    parser.add_argument("--classes", help="file with the class names (default: the protocol's, beside the lists)")
    parser.add_argument("--output", type=Path, help="results folder (default: evaluations/PROTOCOL-MODEL)")
    parser.add_argument("--limit", type=int, help="at most so many videos of a split: a quick look, labelled as such")
    parser.add_argument("--batch-size", type=int, default=8, help="videos of a forward pass, with all their views")
    parser.add_argument("--workers", type=int, default=2, help="decoding processes of each rank")
    parser.add_argument("--dtype", choices=DTYPES, default="float32")
    parser.add_argument("--cpu", action="store_true", help="even if there is an accelerator")
    parser.add_argument("--no-frozen-clip", action="store_true", help="leave out the row of the CLIP without prompts")
    parser.add_argument("--retry-failed", action="store_true", help="try videos again that could not be read")
    fields = parser.add_argument_group("fields of the protocol (default: what it says)")
    for name, kind in FIELDS.items():
        many = {"nargs": "+"} if kind is list else {"type": kind}
        fields.add_argument(f"--{name.replace('_', '-')}", **many)
    return parser.parse_args()


def chosen_protocol(arguments: argparse.Namespace) -> Protocol:
    changes = {name: getattr(arguments, name) for name in FIELDS if getattr(arguments, name) is not None}
    return load_protocol(arguments.protocol).overridden(changes)


def evaluate(arguments: argparse.Namespace, state: PartialState) -> None:
    if arguments.workers < 0:
        raise EvaluationError(f"--workers must be 0 or more, got {arguments.workers}.")
    plan = plan_evaluation(
        chosen_protocol(arguments), arguments.videos, arguments.annotations, arguments.classes, arguments.limit
    )
    for split in plan.splits:
        split.table.require_videos()
    checkpoint = load_checkpoint(
        arguments.model, arguments.revision, device=state.device, dtype=DTYPES[arguments.dtype]
    )
    evaluator = Evaluator(checkpoint, plan, not arguments.no_frozen_clip, arguments.batch_size)
    folder = arguments.output or Path("evaluations", f"{plan.protocol.name}-{Path(arguments.model).name}")
    log = EvaluationLog(folder, evaluator.setup())
    batches = evaluator.pending_batches(log, arguments.retry_failed)
    state.wait_for_everyone()  # all have looked at the folder before one writes to it
    if state.is_main_process:
        log.write_setup()
        print_plan(evaluator, log, sum(map(len, batches)))
    state.wait_for_everyone()
    mine = batches[state.process_index :: state.num_processes]
    try:
        run_rank(evaluator, mine, log, state, arguments.workers)
    except (torch.OutOfMemoryError, MemoryError) as error:
        size = f"--batch-size {arguments.batch_size} x {plan.protocol.views * plan.protocol.spatial_views} views"
        raise RankError(f"out of memory; lower --batch-size ({size})") from error
    except USER_ERRORS as error:
        raise RankError(" ".join(str(error).split())) from error
    state.wait_for_everyone()
    if state.is_main_process:
        log.read_all()
        report(evaluator, log)


class RankError(RuntimeError):
    """What stopped one rank among its own videos; the message is one line."""


def run_rank(evaluator: Evaluator, batches: list, log: EvaluationLog, state: PartialState, workers: int) -> None:
    """Evaluates this rank's videos, with a bar for those of the first one."""
    with tqdm(total=sum(map(len, batches)), unit="video", disable=not state.is_main_process, leave=False) as progress:
        for results in evaluator.run(batches, log, state.process_index, workers):
            progress.update(len(results))


def print_plan(evaluator: Evaluator, log: EvaluationLog, pending: int) -> None:
    plan = evaluator.plan
    counts = ", ".join(f"{split.name}: {len(split.table):,} of {split.listed:,}" for split in plan.splits)
    print(f"{plan.protocol.name}: videos of the splits {counts}; {len(plan.videos):,} different, {pending:,} to do")
    if log.finished:
        print(f"going on in {log.folder}: {len(log.finished):,} videos are finished")
    for warning in evaluator.warnings:
        print(f"warning: {warning}", file=sys.stderr)


def report(evaluator: Evaluator, log: EvaluationLog) -> None:
    """Writes the files of the results folder and prints the table."""
    print(write_report(log.folder, evaluator, log.finished, command=shlex.join(sys.argv)))
    print_unreadable(log)
    print(f"written to {log.folder}")


def print_unreadable(log: EvaluationLog, shown: int = 10) -> None:
    unreadable = [result for result in log.finished.values() if result.status != "ok"]
    for result in unreadable[:shown]:
        print(f"{result.status}: {result.name} ({result.reason})", file=sys.stderr)
    if len(unreadable) > shown:
        print(f"… {len(unreadable):,} in all: results.json lists them", file=sys.stderr)


def main() -> int:
    arguments = parse_arguments()
    torch.backends.cudnn.allow_tf32 = False  # float32 is float32, in the patch embedding too
    disable_progress_bar()  # of loading weights; ours follows
    # accelerate starts a group of processes on a CPU only when it is told that there is nothing else.
    on_cpu = arguments.cpu or parse_flag_from_env("ACCELERATE_USE_CPU") or not torch.accelerator.is_available()
    # A rank that has finished waits for the slowest; libraries give up after 10 to 30 minutes.
    state = PartialState(cpu=on_cpu, timeout=timedelta(days=7))
    try:
        evaluate(arguments, state)
    except RankError as error:
        who = f"evaluate (rank {state.process_index})" if state.num_processes > 1 else "evaluate"
        print(f"{who}: {error}; what is finished is kept, the same command goes on", file=sys.stderr)
        return 2
    except USER_ERRORS as error:
        if state.is_main_process:  # here all ranks find the same
            print(f"evaluate: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        if state.is_main_process:
            print("evaluate: interrupted; the same command goes on where it was", file=sys.stderr)
        return 130
    state.destroy_process_group()  # not after an error: other ranks may wait in it, and exiting ends the wait
    return 0


if __name__ == "__main__":
    sys.exit(main())
