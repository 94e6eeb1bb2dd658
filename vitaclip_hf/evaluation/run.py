"""Evaluates a Vita-CLIP checkpoint under a protocol. If it is interrupted, the same command goes on where it was.

vitaclip evaluate --model M --protocol hmdb51-zero-shot --videos DIR --annotations DIR
vitaclip evaluate --model M --protocol own-zero-shot --videos DIR     (a folder for each class)
accelerate launch --num_processes 4 examples/evaluate.py --model M --protocol k400-supervised --videos DIR …

Protocols are in configuration/protocols/. Their frames, views, texts and splits can be changed by arguments, such as
--views 4 --templates "a {}."; for other lists or expected counts write a file of your own.
Several processes: `accelerate launch --num_processes N` on GPUs, `torchrun --nproc_per_node N` on a CPU. All of them
have to see the output folder. vitaclip_hf/evaluation/report.py lists the files that are written there.
"""

import argparse
import re
import shlex
import sys
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import timedelta
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from tqdm import tqdm
from transformers.utils.logging import disable_progress_bar

from ..data.annotations import AnnotationError
from ..data.class_descriptions import read_class_descriptions
from ..data.folder_lock import FolderLock
from ..loading.checkpoint import CheckpointError, load_checkpoint
from ..model.precision import fast_dtype
from .evaluator import DTYPES, EvaluationError, Evaluator
from .plan import plan_evaluation
from .progress_log import EvaluationLog, SetupMismatchError
from .protocols import OPTIONS, Protocol, ProtocolError, load_protocol
from .result_files import read_results


if TYPE_CHECKING:
    from accelerate import PartialState

# Some of them are imported at the end only; a missing one stops the evaluation at the beginning.
PACKAGES = ("accelerate", "datasets", "evaluate", "matplotlib", "pyarrow")
USER_ERRORS = (
    AnnotationError,
    CheckpointError,
    EvaluationError,
    ImportError,
    OSError,
    ProtocolError,
    SetupMismatchError,
)


class RankError(RuntimeError):
    """One rank stopped while it evaluated its videos; the message is one line."""


def evaluate(
    model: str | Path,
    protocol: Protocol | str,
    videos: str | Path,
    annotations: str | Path | None = None,
    classes: str | Path | None = None,
    *,
    base_classes: str | Path | None = None,
    novel_classes: str | Path | None = None,
    revision: str | None = None,
    output: str | Path | None = None,
    limit: int | None = None,
    batch_size: int = 8,
    workers: int = 2,
    dtype: str = "float32",
    cpu: bool = False,
    frozen_clip: bool = True,
    retry_failed: bool = False,
    max_seconds: float | None = None,
    blend: float = 0.0,
    descriptions: str | Path | None = None,
    command: str = "",
    verbose: bool = True,
) -> dict[str, Any] | None:
    """
    Evaluates a checkpoint under a protocol and writes the results folder.

    An interrupted evaluation goes on where it was if it is called again. Every rank of a distributed run calls this.

    Args:
        model (`str` or `Path`): folder or Hub id of a Vita-CLIP, whole or prompts alone.
        protocol ([`Protocol`] or `str`): a protocol, or its name for [`load_protocol`].
        videos (`str` or `Path`): folder of the videos.
        annotations (`str` or `Path`, *optional*): folder of the protocol's lists, or one list. By default, each folder
            in `videos` is a class.
        classes (`str` or `Path`, *optional*): file with the class names; by default the protocol's, beside the lists.
        base_classes, novel_classes (`str` or `Path`, *optional*): class files of base-to-novel, such as ViFi-CLIP's.
        revision (`str`, *optional*): of the model on the Hub.
        output (`str` or `Path`, *optional*): results folder; by default `evaluations/PROTOCOL-MODEL`.
        limit (`int`, *optional*): evaluate at most so many videos of each split. The results are marked as limited.
        batch_size (`int`, defaults to 8): videos of a forward pass, each with all its views.
        workers (`int`, defaults to 2): decoding processes of each rank; 0 decodes in this process.
        dtype (`str`, defaults to `"float32"`): `"float32"`, `"bfloat16"`, `"float16"`, or `"auto"`: bfloat16 where the
            hardware multiplies it fast, else float32. The results name the one that was used.
        cpu (`bool`, defaults to `False`): use the CPU even if there is an accelerator.
        frozen_clip (`bool`, defaults to `True`): also evaluate the same CLIP without prompts.
        retry_failed (`bool`, defaults to `False`): try videos again that could not be read.
        max_seconds (`float`, *optional*): most time for decoding one video; after it, the video is a failed one.
        blend (`float`, defaults to 0): weight of the frozen CLIP's features in the row `vita_clip`, 0 to 1. Choose it
            on validation videos of trained classes, never on the test.
        descriptions (`str` or `Path`, *optional*): JSON file with several texts for each class, in place of its name.
        command (`str`, defaults to `""`): a command line to keep in the results.
        verbose (`bool`, defaults to `True`): print the plan, a progress bar and the table.

    Returns:
        `dict`: the content of `results.json`, or `None` on other ranks than the first.

    Raises:
        AnnotationError, ProtocolError: lists or a protocol that cannot be used.
        CheckpointError, EvaluationError: a checkpoint that cannot be loaded or does not fit the protocol.
        SetupMismatchError: the results folder holds something else.
        ImportError: a package of `vitaclip_hf[train]` is missing.
        FolderInUseError: another evaluation works in the results folder.
        RankError: this rank stopped while it evaluated its videos, for example out of memory.

    Example:

    ```python
    >>> from vitaclip_hf.evaluation.run import evaluate

    >>> results = evaluate("examples/demo/checkpoint", "own-zero-shot", "my_videos")  # doctest: +SKIP
    >>> results["rows"]["vita_clip"]["top1"]  # doctest: +SKIP

    ```
    """
    require_packages()
    if workers < 0:
        raise EvaluationError(f"`workers` must be 0 or more, got {workers}.")
    if dtype != "auto" and dtype not in DTYPES:
        raise EvaluationError(f"`dtype` must be auto or one of {', '.join(DTYPES)}, got {dtype!r}.")
    state = process_state(cpu)
    number_type = fast_dtype(state.device) if dtype == "auto" else DTYPES[dtype]
    protocol = load_protocol(protocol) if isinstance(protocol, str) else protocol
    plan = plan_evaluation(
        protocol, videos, annotations, classes, limit, base_classes=base_classes, novel_classes=novel_classes
    )
    for split in plan.splits:
        split.table.require_videos()
    checkpoint = load_checkpoint(model, revision)
    folder = Path(output or Path("evaluations", f"{protocol.name}-{Path(model).name}"))
    alone: AbstractContextManager = FolderLock(folder, "evaluation") if state.is_main_process else nullcontext()
    with alone, _exact_float32():
        evaluator = Evaluator(
            checkpoint,
            plan,
            frozen_clip,
            batch_size,
            max_seconds=max_seconds,
            blend=blend,
            descriptions=None if descriptions is None else read_class_descriptions(descriptions),
            device=state.device,
            dtype=number_type,
        )
        log = EvaluationLog(folder, evaluator.setup())
        batches = evaluator.pending_batches(log, retry_failed)
        state.wait_for_everyone()  # all ranks check the folder before the first one writes to it
        verbose = verbose and state.is_main_process
        if state.is_main_process:
            log.write_setup()
        if verbose:
            print_plan(evaluator, log, sum(map(len, batches)))
        state.wait_for_everyone()
        run_rank(
            evaluator, batches[state.process_index :: state.num_processes], log, state.process_index, workers, verbose
        )
        state.wait_for_everyone()
        return report(evaluator, log, command, verbose) if state.is_main_process else None


def require_packages() -> None:
    """
    Raises:
        ImportError: a package that an evaluation needs is not installed.
    """
    missing = [package for package in PACKAGES if not _is_installed(package)]
    if missing:
        raise ImportError(f'evaluation needs {", ".join(missing)}: pip install "vitaclip_hf[train]"')


def _is_installed(package: str) -> bool:
    try:
        metadata.version(package)  # no import: a script called evaluate.py would be taken for the package
    except metadata.PackageNotFoundError:
        return False
    return True


def process_state(cpu: bool) -> "PartialState":
    """The state of this process, and the group of all ranks if there are several."""
    from accelerate import PartialState
    from accelerate.utils import parse_flag_from_env

    # accelerate starts a group of processes on a CPU only if `cpu` is set.
    on_cpu = cpu or parse_flag_from_env("ACCELERATE_USE_CPU") or not torch.accelerator.is_available()
    # A rank that has finished waits for the slowest. The libraries' own limit is 10 to 30 minutes.
    return PartialState(cpu=on_cpu, timeout=timedelta(days=7))


@contextmanager
def _exact_float32() -> Iterator[None]:
    """Convolutions in full float32, not in TF32: the patch embedding is one."""
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32 = before


def run_rank(
    evaluator: Evaluator, batches: list[list[int]], log: EvaluationLog, rank: int, workers: int, verbose: bool
) -> None:
    """Evaluates the batches of one rank.

    Raises:
        RankError: out of memory, or files that cannot be written.
    """
    try:
        with tqdm(total=sum(map(len, batches)), unit="video", disable=not verbose, leave=False) as progress:
            for results in evaluator.run(batches, log, rank, workers):
                progress.update(len(results))
    except (torch.OutOfMemoryError, MemoryError) as error:
        views = evaluator.protocol.views * evaluator.protocol.spatial_views
        size = f"`batch_size` {evaluator.batch_size} x {views} views"
        raise RankError(f"out of memory; lower `batch_size` ({size})") from error
    except USER_ERRORS as error:
        raise RankError(" ".join(str(error).split())) from error


def print_plan(evaluator: Evaluator, log: EvaluationLog, pending: int) -> None:
    plan = evaluator.plan
    counts = ", ".join(f"{split.name}: {len(split.table):,} of {split.listed:,}" for split in plan.splits)
    print(f"{plan.protocol.name}: videos of the splits {counts}; {len(plan.videos):,} different, {pending:,} to do")
    print(f"model in {evaluator.setup()['dtype']} on {evaluator.checkpoint.model.device}")
    if log.finished:
        print(f"going on in {log.folder}: {len(log.finished):,} videos are finished")
    for warning in evaluator.warnings:
        print(f"warning: {warning}", file=sys.stderr)


def report(evaluator: Evaluator, log: EvaluationLog, command: str, verbose: bool) -> dict[str, Any]:
    """Writes the files of the results folder, prints the table, and returns the results."""
    from .report import write_report  # needs packages of the extra

    log.read()
    table = write_report(log.folder, evaluator, log.finished, command)
    if verbose:
        print(table)
        print_unreadable(log)
        print(f"written to {log.folder}")
    return read_results(log.folder / "results.json")


def print_unreadable(log: EvaluationLog, shown: int = 10) -> None:
    unreadable = [result for result in log.finished.values() if result.status != "ok"]
    for result in unreadable[:shown]:
        print(f"{result.status}: {result.name} ({result.reason})", file=sys.stderr)
    if len(unreadable) > shown:
        print(f"… {len(unreadable):,} in all: results.json lists them", file=sys.stderr)


# The command line


def parse_arguments(arguments: Sequence[str] | None, prog: str | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog, description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="Vita-CLIP folder or id")
    parser.add_argument("--revision", help="of the model on the Hub")
    parser.add_argument("--protocol", required=True, help="its name, or FILE.yaml:TASK")
    parser.add_argument("--videos", required=True, help="folder of the videos")
    parser.add_argument("--annotations", help="folder of the protocol's lists, or one list")
    parser.add_argument("--classes", help="file with the class names (default: the protocol's, beside the lists)")
    parser.add_argument("--base-classes", metavar="FILE", help="base-to-novel: file with the names of the base classes")
    parser.add_argument("--novel-classes", metavar="FILE", help="base-to-novel: file with those of the novel classes")
    parser.add_argument("--output", type=Path, help="results folder (default: evaluations/PROTOCOL-MODEL)")
    parser.add_argument("--limit", type=int, help="at most so many videos of a split: a quick look, labelled as such")
    parser.add_argument("--batch-size", type=int, default=8, help="videos of a forward pass, with all their views")
    parser.add_argument("--workers", type=int, default=2, help="decoding processes of each rank")
    parser.add_argument(
        "--dtype",
        choices=("auto", *DTYPES),
        default="float32",
        help="number type of the model; auto: bfloat16 where the hardware multiplies it fast, else float32",
    )
    parser.add_argument("--cpu", action="store_true", help="even if there is an accelerator")
    parser.add_argument(
        "--no-frozen-clip",
        action="store_false",
        dest="frozen_clip",
        help="leave out the row of the CLIP without prompts",
    )
    parser.add_argument("--retry-failed", action="store_true", help="try videos again that could not be read")
    parser.add_argument("--max-seconds", type=float, help="most time for decoding one video (default: no limit)")
    parser.add_argument("--blend", type=float, default=0.0, help="weight of the frozen CLIP's video features, 0 to 1")
    parser.add_argument("--descriptions", metavar="FILE", help="JSON with several texts for each class")
    fields = parser.add_argument_group("fields of the protocol (default: the protocol's own values)")
    for name, kind in OPTIONS.items():
        many: dict[str, Any] = {"nargs": "+"} if kind is tuple else {"type": kind}
        fields.add_argument(f"--{name.replace('_', '-')}", **many)
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None, prog: str | None = None) -> int:
    """
    The command line.

    Args:
        arguments (`Sequence[str]`, *optional*): by default those of this process.
        prog (`str`, *optional*): name of the command in its help and its messages.

    Returns:
        `int`: the exit code: 0, or 2 if something cannot be done (one line on stderr says what), or 130 after Ctrl-C.
    """
    given = vars(parse_arguments(arguments, prog))
    name = prog or "evaluate"
    command = shlex.join(sys.argv if arguments is None else [*shlex.split(name), *arguments])

    def refuse(error: Exception, by: str = name, more: str = "") -> int:
        message = " ".join(str(error).split())
        # The library speaks of arguments, the command line of flags.
        flags = re.sub(r"`(\w+)`", lambda hit: _flag(hit[1]) if hit[1] in given else hit[0], message)
        print(f"{by}: {flags}{more}", file=sys.stderr)
        return 2

    disable_progress_bar()  # of loading weights
    try:
        require_packages()
    except ImportError as error:
        return refuse(error)
    state = process_state(given["cpu"])
    try:
        changes = {field: value for field in OPTIONS if (value := given[field]) is not None}
        protocol = load_protocol(given["protocol"]).overridden(changes)
        options = {key: value for key, value in given.items() if key not in (*OPTIONS, "protocol")}
        evaluate(protocol=protocol, command=command, **options)
    except RankError as error:
        by = f"{name} (rank {state.process_index})" if state.num_processes > 1 else name
        return refuse(error, by, "; what is finished is kept, the same command goes on")
    except USER_ERRORS as error:
        return refuse(error) if state.is_main_process else 2  # all ranks find the same; one says it
    except KeyboardInterrupt:
        if state.is_main_process:
            print(f"{name}: interrupted; the same command goes on where it was", file=sys.stderr)
        return 130
    state.destroy_process_group()  # not after an error: other ranks may wait in it, and exiting ends the wait
    return 0


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


__all__ = ["RankError", "evaluate", "main"]


if __name__ == "__main__":
    sys.exit(main())
