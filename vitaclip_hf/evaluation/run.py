"""Evaluates a checkpoint under a protocol. If it is interrupted, the same command goes on where it was.

vitaclip evaluate --model M --protocol hmdb51-zero-shot --videos DIR --annotations DIR
vitaclip evaluate --model M --protocol own-zero-shot --videos DIR     (a folder for each class)
accelerate launch --num_processes 4 examples/evaluate.py --model M --protocol k400-supervised --videos DIR …

Protocols are in configuration/protocols/. Their frames, views, texts and splits can be changed by arguments, such as
--num-views 4 --templates "a {}."; for other lists or expected counts write a file of your own.
Several processes: `accelerate launch --num_processes N` on GPUs, `torchrun --nproc_per_node N` on a CPU. All of them
have to see the output folder. vitaclip_hf/evaluation/report.py lists the files that are written there.
"""

import sys
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, make_dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal, get_type_hints

import torch
from accelerate import PartialState
from accelerate.utils import parse_flag_from_env
from tqdm import tqdm

from ..data.class_descriptions import read_class_descriptions
from ..data.folder_lock import folder_lock
from ..loading.checkpoint import load_checkpoint
from ..loading.guards import number_type
from ..model.machine import fast_dtype
from ..model.read_options import ReadOptions
from .accuracies import markdown_table
from .evaluator import Evaluator
from .plan import plan_evaluation
from .progress_log import EvaluationLog
from .protocols import OPTIONS, EvaluationError, load_protocol
from .report import write_report


def argument(help: str, default: Any = None) -> Any:
    return field(default=default, metadata={"help": help})


@dataclass
class EvaluationArguments:
    """What is evaluated, and how. `limit`, `blend` and `descriptions` change the results and are recorded in them."""

    model: str = field(metadata={"help": "Folder or Hub id: Vita-CLIP, CLIP, SigLIP, X-CLIP, …"})
    protocol: str = field(metadata={"help": "Its name, or FILE.yaml:TASK."})
    videos: str = field(metadata={"help": "Folder of the videos."})
    revision: str | None = argument("Of the model on the Hub.")
    annotations: str | None = argument(
        "Folder of the protocol's lists, or one list. By default, each folder of videos is a class."
    )
    classes: str | None = argument("File with the class names; by default the protocol's, beside the lists.")
    base_classes: str | None = argument("Base-to-novel: file with the names of the base classes.")
    novel_classes: str | None = argument("Base-to-novel: file with the names of the novel classes.")
    output: str | None = argument("Results folder; by default evaluations/PROTOCOL-MODEL.")
    limit: int | None = argument("Evaluate at most so many videos of each split: a quick look, labelled as such.")
    batch_size: int = argument("Videos of a forward pass, each with all its views.", 8)
    workers: int = argument("Decoding processes of each rank; 0 decodes in this process.", 2)
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = argument(
        "Dtype of the model. auto: bfloat16 where the hardware multiplies it fast, else float32.", "float32"
    )
    cpu: bool = argument("Use the CPU even if there is an accelerator.", False)
    frozen_clip: bool = argument("Also evaluate the same CLIP without prompts; --no-frozen-clip leaves it out.", True)
    retry_failed: bool = argument("Try videos again that could not be read.", False)
    blend: float = argument(
        "Weight of the frozen CLIP's video features in the row vita_clip, 0 to 1. Choose it on validation videos of "
        "trained classes, never on the test.",
        0.0,
    )
    descriptions: str | None = argument("JSON file with several texts for each class, in place of its name.")

    def __post_init__(self):
        if self.workers < 0:
            raise EvaluationError(f"`workers` must be 0 or more, got {self.workers}.")


# Fields of the protocol and of `ReadOptions`. Without a value, they are the protocol's and the video processor's own.
Changes = make_dataclass(
    "Changes",
    [(name, list[str] | None if kind is tuple else kind | None, None) for name, kind in OPTIONS.items()]
    + [(name, kind | None, None) for name, kind in get_type_hints(ReadOptions).items()],
    namespace={
        "_argument_group_name": "fields of the protocol (see vitaclip_hf/evaluation/protocols.py) and of reading (see "
        "vitaclip_hf/model/read_options.py); default: as protocol and model say"
    },
)


def evaluate(
    arguments: EvaluationArguments, *, command: str = "", verbose: bool = True, **changes: Any
) -> dict[str, Any] | None:
    """
    Evaluates a checkpoint under a protocol and writes the results folder.

    An interrupted evaluation goes on where it was if it is called again. Every rank of a distributed run calls this.

    Args:
        arguments ([`EvaluationArguments`]): what is evaluated, and how.
        command (`str`, defaults to `""`): a command line to keep in the results.
        verbose (`bool`, defaults to `True`): print the plan, a progress bar and the table.
        changes: fields of [`Protocol`] and [`ReadOptions`] in place of the protocol's and the video processor's own,
            such as `num_views=4` or `max_seconds=10`.

    Returns:
        `dict`: the content of `results.json`, or `None` on other ranks than the first.

    Raises:
        AnnotationError: lists that cannot be used.
        CheckpointError: a checkpoint that cannot be loaded.
        EvaluationError: arguments, protocol, checkpoint and results folder do not fit together, or the memory is full.
        FolderInUseError: another evaluation works in the results folder.
        ValueError: no such `dtype`.

    Example:

    ```python
    >>> from vitaclip_hf.evaluation.run import EvaluationArguments, evaluate

    >>> arguments = EvaluationArguments("examples/demo/checkpoint", "own-zero-shot", "my_videos")
    >>> results = evaluate(arguments, num_views=4)  # doctest: +SKIP
    >>> results["rows"]["vita_clip"]["top1"]  # doctest: +SKIP

    ```
    """
    # accelerate starts a group of processes on a CPU only if `cpu` is set.
    on_cpu = arguments.cpu or parse_flag_from_env("ACCELERATE_USE_CPU") or not torch.accelerator.is_available()
    # A rank that has finished waits for the slowest. The libraries' own limit is 10 to 30 minutes.
    state = PartialState(cpu=on_cpu, timeout=timedelta(days=7))
    device = torch.device("cpu") if on_cpu else state.device  # a process keeps the state of its first call
    overridden = {name: changes.pop(name) for name in OPTIONS if name in changes}
    protocol = load_protocol(arguments.protocol).overridden(overridden)
    lists = ("annotations", "classes", "limit", "base_classes", "novel_classes")
    plan = plan_evaluation(protocol, arguments.videos, **{name: getattr(arguments, name) for name in lists})
    for split in plan.splits:
        split.table.require_videos()
    checkpoint = load_checkpoint(arguments.model, arguments.revision)
    folder = Path(arguments.output or Path("evaluations", f"{protocol.name}-{Path(arguments.model).name}"))
    alone: AbstractContextManager = folder_lock(folder, "evaluation") if state.is_main_process else nullcontext()
    # Convolutions in full float32, not in TF32: the patch embedding is one.
    with alone, torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        evaluator = Evaluator(
            checkpoint,
            plan,
            arguments.frozen_clip,
            arguments.batch_size,
            blend=arguments.blend,
            descriptions=read_class_descriptions(arguments.descriptions) if arguments.descriptions else None,
            device=device,
            dtype=fast_dtype(device) if arguments.dtype == "auto" else number_type(arguments.dtype),
            **changes,
        )
        log = EvaluationLog(folder, evaluator.setup)
        batches = evaluator.pending_batches(log, arguments.retry_failed)
        state.wait_for_everyone()  # all ranks check the folder before the first one writes to it
        verbose = verbose and state.is_main_process
        if state.is_main_process:
            log.write_setup()
        if verbose:
            _print_plan(evaluator, log, sum(map(len, batches)))
        state.wait_for_everyone()
        share = batches[state.process_index :: state.num_processes]
        try:
            with tqdm(total=sum(map(len, share)), unit="video", disable=not verbose, leave=False) as progress:
                for batch in evaluator.run(share, log, state.process_index, arguments.workers):
                    progress.update(len(batch))
        except (torch.OutOfMemoryError, MemoryError, OSError) as error:
            reason = error if isinstance(error, OSError) else "out of memory; lower `batch_size` or `num_views`"
            raise EvaluationError(f"{reason}; what is finished is kept, the same command goes on") from error
        state.wait_for_everyone()
        if not state.is_main_process:
            return None
        log.read()
        results = write_report(log.folder, evaluator, log.finished, command)
    if verbose:
        print(markdown_table(results))
        unreadable = [result for result in log.finished.values() if result.status != "ok"]
        for result in unreadable[:10]:
            print(f"{result.status}: {result.name} ({result.reason})", file=sys.stderr)
        if len(unreadable) > 10:
            print(f"… {len(unreadable):,} in all: results.json lists them", file=sys.stderr)
        print(f"written to {log.folder}")
    return results


def _print_plan(evaluator: Evaluator, log: EvaluationLog, pending: int) -> None:
    plan = evaluator.plan
    counts = ", ".join(f"{split.name}: {len(split.table):,} of {split.listed:,}" for split in plan.splits)
    print(f"{plan.protocol.name}: videos of the splits {counts}; {len(plan.videos):,} different, {pending:,} to do")
    print(f"model in {evaluator.setup['dtype']} on {evaluator.model.device}")
    if log.finished:
        print(f"going on in {log.folder}: {len(log.finished):,} videos are finished")
    for warning in plan.warnings:
        print(f"warning: {warning}", file=sys.stderr)
