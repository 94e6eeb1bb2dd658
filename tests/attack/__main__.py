"""Runs all attacks in rounds until the time is over, and writes a report of figures.

    python -m attack --seed 1 --minutes 10 --output attack-report      (from the folder tests)

Each round has other seeds. The report is written after each round.
"""

import argparse
import json
import logging
import lzma
import os
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path


FIELD_ROUNDS = 20  # that attack all fields of the folders


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m attack", description=__doc__)
    parser.add_argument("--seed", type=int, default=1, help="of all damage")
    parser.add_argument("--minutes", type=float, default=120.0, help="after which no round begins")
    parser.add_argument("--output", type=Path, default=Path("attack-report"), help="folder of the report")
    parser.add_argument("--only", nargs="+", help="names of machines: bombs cards clips released folders library kills")
    options = parser.parse_args()
    os.environ["HF_HUB_OFFLINE"] = "1"
    warnings.simplefilter("ignore")

    import torch
    from attack import hostile_folders, kills, media_files, publishing, released_files
    from attack.library_work import LibraryWork
    from attack.outcomes import Outcomes, table, write_report
    from tiny_models import GOLDEN, GoldenCase, openai_tokenizer, tiny_model
    from tiny_training import save_start, write_videos
    from transformers.utils import logging as transformers_logging

    from vitaclip_hf import VitaClipProcessor, VitaClipVideoProcessor, load_checkpoint

    torch.set_num_threads(1)
    logging.disable(logging.WARNING)
    transformers_logging.disable_progress_bar()
    started = time.monotonic()
    done: dict[str, Outcomes] = {}
    command = f"python -m attack --seed {options.seed} --minutes {options.minutes:g}"

    def add(found: Outcomes) -> None:
        done[found.machine] = done[found.machine].joined(found) if found.machine in done else found
        for defect in found.defects:
            print(f"  defect: {defect}", flush=True)

    with tempfile.TemporaryDirectory(prefix="attack-") as name:
        scratch = Path(name)
        tempfile.tempdir = os.environ["TMPDIR"] = str(scratch / "temporary")  # what is left there is counted
        for folder in ("temporary", "videos", "trainings", "evaluations", "indexes"):
            (scratch / folder).mkdir()
        tokenizer = openai_tokenizer()
        tokenizer.save_pretrained(scratch / "tokenizer")
        good = save_start(scratch / "good", tokenizer)
        videos = write_videos(scratch / "videos")
        case = "all_prompts_csc_end"
        (scratch / "released.pth").write_bytes(lzma.decompress((GOLDEN / case / "checkpoint.pth.xz").read_bytes()))
        settings = json.loads((GOLDEN / case / "settings.json").read_text())
        golden = GoldenCase(case, settings, {}, scratch / "released.pth", GOLDEN / case / "classes.txt")
        model = tiny_model(tokenizer=tokenizer)
        processor = VitaClipProcessor(VitaClipVideoProcessor(num_frames=4), tokenizer)
        work = LibraryWork(load_checkpoint(good))

        def bombs(seed: int, number: int) -> None:
            with tempfile.TemporaryDirectory() as place:
                add(media_files.attack_bombs(Path(place)))

        def cards(seed: int, number: int) -> None:
            with tempfile.TemporaryDirectory() as place:
                add(publishing.attack_cards(model, processor, Path(place)))

        def clips(seed: int, number: int) -> None:
            add(media_files.attack_damaged_clips(seed, 2600))

        def released(seed: int, number: int) -> None:
            add(released_files.attack_released_files(golden, scratch / "tokenizer", seed, 80))

        def folders(seed: int, number: int) -> None:
            def chosen(place: int, name: str) -> bool:
                return place % FIELD_ROUNDS == number % FIELD_ROUNDS

            add(hostile_folders.attack_hostile_folders(good, chosen))

        def library(seed: int, number: int) -> None:
            for more in range(4):
                add(work.attack(seed + more))

        def killed(seed: int, number: int) -> None:
            add(kills.attack_trainings(good, videos, scratch / "trainings", seed, [number]))
            add(kills.attack_evaluations(good, videos, scratch / "evaluations", seed, [number]))
            add(kills.attack_indexes(good, videos, scratch / "indexes", seed, [number]))

        machines: dict[str, Callable[[int, int], None]] = {
            "bombs": bombs, "cards": cards, "clips": clips, "released": released, "folders": folders,
            "library": library, "kills": killed,
        }  # fmt: skip
        number = 0
        while number == 0 or time.monotonic() - started < 60 * options.minutes:
            for machine, attack in machines.items():
                if options.only is None or machine in options.only:
                    attack(options.seed + 1000 * number, number)
            number += 1
            minutes = (time.monotonic() - started) / 60
            write_report(options.output, list(done.values()), command, minutes)
            defects = sum(found.num_defects for found in done.values())
            print(f"round {number}, {minutes:.1f} minutes, {defects} defects", flush=True)
        print(f"\n{table(done.values())}\n\n{options.output / 'report.json'}")
    return 1 if any(found.num_defects for found in done.values()) else 0


if __name__ == "__main__":
    raise SystemExit(main())
