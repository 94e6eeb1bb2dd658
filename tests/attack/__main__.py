"""Runs all attacks and writes a report of figures.

    python -m attack --seed 1 --minutes 10 --output attack-report      (from the folder tests)

The first machines are fixed lists. The rest of the time is shared by the fuzzers and the kills.
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


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m attack", description=__doc__)
    parser.add_argument("--seed", type=int, default=1, help="of all damage")
    parser.add_argument("--minutes", type=float, default=120.0, help="time of the fuzzers and the kills together")
    parser.add_argument("--output", type=Path, default=Path("attack-report"), help="folder of the report")
    parser.add_argument("--only", nargs="+", help="names of machines: clips bombs released folders cards kills")
    options = parser.parse_args()
    os.environ["HF_HUB_OFFLINE"] = "1"
    warnings.simplefilter("ignore")

    import torch
    from attack import hostile_folders, kills, media_files, publishing, released_files
    from attack.outcomes import Outcomes, table, write_report
    from tiny_models import GOLDEN, GoldenCase, openai_tokenizer, tiny_model
    from tiny_training import save_start, write_videos
    from transformers.utils import logging as transformers_logging

    from vitaclip_hf import VitaClipProcessor, VitaClipVideoProcessor

    torch.set_num_threads(1)
    logging.disable(logging.WARNING)
    transformers_logging.disable_progress_bar()
    seed, done = options.seed, []

    def wanted(name: str) -> bool:
        return options.only is None or name in options.only

    def report(found: Outcomes) -> None:
        done.append(found)
        print(table([found]).splitlines()[-1], flush=True)
        for defect in found.defects:
            print(f"  defect: {defect}", flush=True)
        command = f"python -m attack --seed {seed} --minutes {options.minutes:g}"
        write_report(options.output, done, command, seed)

    def fuzz(attack: Callable[[int, int], Outcomes], minutes: float, at_once: int) -> None:
        """Attacks with one seed after the other until the time is over; one row of the report."""
        total: Outcomes | None = None
        end, number = time.monotonic() + 60 * minutes, 0
        while total is None or time.monotonic() < end:
            found = attack(seed + 1000 * number, at_once)
            total = found if total is None else total.joined(found)
            number += 1
        report(total)

    with tempfile.TemporaryDirectory(prefix="attack-") as name:
        scratch = Path(name)
        tokenizer = openai_tokenizer()
        tokenizer.save_pretrained(scratch / "tokenizer")
        good = save_start(scratch / "good", tokenizer)
        videos = scratch / "videos"
        videos.mkdir()
        write_videos(videos)
        case = "all_prompts_csc_end"
        (scratch / "released.pth").write_bytes(lzma.decompress((GOLDEN / case / "checkpoint.pth.xz").read_bytes()))
        settings = json.loads((GOLDEN / case / "settings.json").read_text())
        golden = GoldenCase(case, settings, {}, scratch / "released.pth", GOLDEN / case / "classes.txt")
        if wanted("bombs"):
            (scratch / "bombs").mkdir()
            report(media_files.attack_bombs(scratch / "bombs"))
        if wanted("cards"):
            processor = VitaClipProcessor(VitaClipVideoProcessor(num_frames=4), tokenizer)
            (scratch / "cards").mkdir()
            report(publishing.attack_cards(tiny_model(tokenizer=tokenizer), processor, scratch / "cards"))
        if wanted("clips"):
            fuzz(media_files.attack_damaged_clips, options.minutes * 0.2, 260)
        if wanted("released"):
            fuzz(
                lambda number, count: released_files.attack_released_files(
                    golden, scratch / "tokenizer", number, count
                ),
                options.minutes * 0.2,
                20,
            )
        if wanted("folders"):
            parts = max(1, round(20 / options.minutes))  # all of them take 10 minutes
            report(
                hostile_folders.attack_hostile_folders(
                    good, lambda number, name: "=" not in name or number % parts == seed % parts
                )
            )
        if wanted("kills"):
            for attack, folder in (
                (kills.attack_trainings, "trainings"),
                (kills.attack_evaluations, "evaluations"),
                (kills.attack_indexes, "indexes"),
            ):
                place = scratch / folder
                place.mkdir()
                count = max(2, round(options.minutes / 5))
                report(attack(good, videos, place, seed, count))
    print(f"\n{table(done)}\n\n{options.output / 'report.json'}")
    return 1 if any(found.num_defects for found in done) else 0


if __name__ == "__main__":
    raise SystemExit(main())
