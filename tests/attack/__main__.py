"""Runs all attacks in rounds until the time is over, and writes a report of figures.

    python -m attack --seed 1 --minutes 10 --output attack-report      (from the folder tests)

Each round has other seeds. The report is written after each round.
"""

import argparse
import json
import logging
import os
import tempfile
import time
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path


FIELD_ROUNDS = 20  # that attack all fields of the folders
MACHINES = ("bombs", "cards", "clips", "released", "folders", "library", "kills")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m attack", description=__doc__)
    parser.add_argument("--seed", type=int, default=1, help="of all damage")
    parser.add_argument("--minutes", type=float, default=120.0, help="after which no round begins")
    parser.add_argument("--output", type=Path, default=Path("attack-report"), help="folder of the report")
    parser.add_argument("--only", nargs="+", choices=MACHINES, default=MACHINES, help="machines to run")
    options = parser.parse_args()
    os.environ["HF_HUB_OFFLINE"] = "1"
    warnings.simplefilter("ignore")

    import torch
    from attack import hostile_folders, kills, media_files, publishing, released_files
    from attack.library_work import LibraryWork
    from attack.outcomes import Attack, Outcomes
    from tiny_models import GoldenCase, openai_tokenizer, tiny_model, tiny_processor
    from tiny_training import save_start, write_videos
    from transformers.utils import logging as transformers_logging

    from vitaclip_hf import load_checkpoint
    from vitaclip_hf.version import package_versions

    torch.set_num_threads(1)
    logging.disable(logging.WARNING)
    transformers_logging.disable_progress_bar()
    started = time.monotonic()
    outcomes = {machine: Outcomes() for machine in options.only}
    with tempfile.TemporaryDirectory(prefix="attack-") as name:
        scratch = Path(name)
        tempfile.tempdir = os.environ["TMPDIR"] = str(scratch / "temporary")  # what is left there goes too
        for folder in ("temporary", "videos", "runs"):
            (scratch / folder).mkdir()
        tokenizer = openai_tokenizer()
        tokenizer.save_pretrained(scratch / "tokenizer")
        good = save_start(scratch / "good", tokenizer)
        videos = write_videos(scratch / "videos")
        golden = GoldenCase("all_prompts_csc_end", scratch)
        model = tiny_model(tokenizer=tokenizer)
        processor = tiny_processor(tokenizer)
        work = LibraryWork(load_checkpoint(good))

        def fields(number: int) -> Iterable[Attack]:
            chosen = hostile_folders.changes()[number % FIELD_ROUNDS :: FIELD_ROUNDS]
            return hostile_folders.attacks(good, [name for name, _ in chosen])

        machines: dict[str, Callable[[int, int], Iterable[Attack]]] = {
            "bombs": lambda seed, number: media_files.bombs(),
            "cards": lambda seed, number: publishing.cards(model, processor),
            "clips": lambda seed, number: media_files.damaged_clips(seed, 2600),
            "released": lambda seed, number: released_files.attacks(golden, scratch / "tokenizer", seed, 80),
            "folders": lambda seed, number: fields(number),
            "library": lambda seed, number: work.attacks(range(seed, seed + 4)),
            "kills": lambda seed, number: kills.attacks(good, videos, scratch / "runs", seed, kills.of_round(number)),
        }
        number = 0
        while number == 0 or time.monotonic() - started < 60 * options.minutes:
            for machine, found in outcomes.items():
                found.run(machines[machine](options.seed + 1000 * number, number))
            number += 1
            minutes = (time.monotonic() - started) / 60
            report = {
                "command": f"python -m attack --seed {options.seed} --minutes {options.minutes:g}",
                "minutes": round(minutes, 1),
                "versions": package_versions(),
                "machines": {machine: found.as_dict() for machine, found in outcomes.items()},
            }
            options.output.mkdir(parents=True, exist_ok=True)
            (options.output / "report.json").write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
            defects = sum(len(found.defects) for found in outcomes.values())
            print(f"round {number}, {minutes:.1f} minutes, {defects} defects", flush=True)
    print(json.dumps(report["machines"], indent=1), options.output / "report.json", sep="\n")
    return 1 if defects else 0


if __name__ == "__main__":
    raise SystemExit(main())
