"""Evaluates a Vita-CLIP checkpoint on tasks of mteb, in mteb's own harness. Needs `pip install '.[mteb]'`.

python examples/run_mteb.py --model M --tasks HMDB51ZeroShot HMDB51Clustering MSVDT2VRetrieval
python examples/run_mteb.py --model examples/demo/checkpoint --tasks WorldZeroShot WorldTextToVideo

mteb downloads the data of its tasks. The four tasks of world_tasks.py draw their videos and download nothing.
Templates are the task's. mteb writes the results below OUTPUT/results. Finished tasks are not run again.
"""

import argparse
import sys
import tempfile
from dataclasses import fields
from pathlib import Path

from transformers.utils.logging import disable_progress_bar

from vitaclip_hf import ClipSpecification, VideoDecodingError


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="folder or id of a Vita-CLIP or another dual encoder")
    parser.add_argument("--revision", help="of the model on the Hub")
    parser.add_argument("--tasks", nargs="+", required=True, help="names of tasks of mteb or of world_tasks.py")
    parser.add_argument(
        "--output", type=Path, default=Path("evaluations", "mteb"), help="folder (default: evaluations/mteb)"
    )
    parser.add_argument("--name", help="of the model in the results, ORGANISATION/NAME")
    parser.add_argument("--batch-size", type=int, default=16, help="videos (with their views) or texts of a batch")
    parser.add_argument("--workers", type=int, help="decoding processes (default: this process decodes)")
    parser.add_argument("--device", help="default: the accelerator, if there is one")
    parser.add_argument("--dtype", default="float32", help="of the model: float32, bfloat16 or float16")
    parser.add_argument("--predictions", action="store_true", help="write them too, to OUTPUT/predictions")
    parser.add_argument("--overwrite", action="store_true", help="run finished tasks again")
    views = parser.add_argument_group("clips of a video (default: the checkpoint's)")
    views.add_argument("--num-frames", type=int)
    views.add_argument("--sampling", choices=("uniform", "dense"))
    views.add_argument("--frame-stride", type=int, help="of dense clips")
    views.add_argument("--num-views", type=int, help="their features are averaged")
    views.add_argument("--num-spatial-views", type=int, choices=(1, 3))
    return parser.parse_args()


def find_tasks(names: list[str], videos: Path) -> list:
    """The tasks of these names.

    Args:
        names: of tasks of mteb or of world_tasks.py.
        videos: folder for the videos that tasks of world_tasks.py draw.

    Raises:
        ValueError: there is no task of this name.
    """
    import mteb
    from world_tasks import TASKS

    def find(name: str):
        try:
            return TASKS[name](videos) if name in TASKS else mteb.get_task(name)
        except KeyError as error:
            raise ValueError(f"unknown task: {str(error.args[0]).removeprefix('KeyError: ')}") from error

    return [find(name) for name in names]


def evaluate(arguments: argparse.Namespace, videos: Path) -> None:
    import mteb
    from mteb_encoder import MtebEncoder

    if arguments.batch_size < 1:
        raise ValueError(f"--batch-size must be at least 1, got {arguments.batch_size}.")
    tasks = find_tasks(arguments.tasks, videos)
    encoder = MtebEncoder(
        arguments.model,
        arguments.revision,
        device=arguments.device,
        dtype=arguments.dtype,
        name=arguments.name,
        **{field.name: getattr(arguments, field.name) for field in fields(ClipSpecification)},
    )
    cache = mteb.ResultCache(arguments.output)
    results = mteb.evaluate(
        encoder,
        tasks,
        cache=cache,
        co2_tracker=False,
        encode_kwargs={"batch_size": arguments.batch_size},
        num_proc=arguments.workers,
        overwrite_strategy="always" if arguments.overwrite else "only-missing",
        prediction_folder=arguments.output / "predictions" if arguments.predictions else None,
    )
    report(encoder.mteb_model_meta, tasks, results.task_results)
    print(f"written to {cache.get_task_result_path(tasks[0].metadata.name, encoder.mteb_model_meta).parent}")


def report(meta, tasks: list, results: list) -> None:
    """Prints the scores as a Markdown table."""
    print(f"{meta.model_name_with_experiment}, revision {meta.revision}\n\n| task | score | |\n| --- | --- | ---: |")
    main_scores = {task.metadata.name: task.metadata.main_score for task in tasks}
    for result in results:
        print(f"| {result.task_name} | {main_scores[result.task_name]} | {result.get_score():.4f} |")


def main() -> int:
    arguments = parse_arguments()
    disable_progress_bar()  # of loading weights
    try:
        with tempfile.TemporaryDirectory() as videos:
            evaluate(arguments, Path(videos))
    except (ImportError, OSError, ValueError, VideoDecodingError) as error:
        advice = "; pip install '.[mteb]'" if isinstance(error, ImportError) else ""
        print(f"run_mteb: {' '.join(str(error).split())}{advice}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
