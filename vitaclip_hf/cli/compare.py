"""What one evaluation is better than another by, with paired bootstrap confidence intervals.

python examples/compare.py A/results.json B/results.json
python examples/compare.py A/results.json A/results.json --rows frozen_clip vita_clip

Takes the per-video predictions beside the two files; both must be of the same videos.
"""

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path

from ..evaluation.comparison import ComparisonError, compare, limits, pair, setting_differences


TITLES = {"top1": "top-1", "top5": "top-5", "mean_class": "mean per class"}


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("a", type=Path, help="results.json of A")
    parser.add_argument("b", type=Path, help="results.json of B")
    parser.add_argument(
        "--rows", nargs=2, default=["vita_clip", "vita_clip"], metavar=("A", "B"), help="which row of each"
    )
    parser.add_argument("--resamples", type=int, default=10_000)
    parser.add_argument("--confidence", type=float, default=0.95)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, help="JSON file to write")
    return parser.parse_args()


def main() -> int:
    arguments = parse_arguments()
    try:
        settings, limited = setting_differences(arguments.a, arguments.b), limits(arguments.a, arguments.b)
        splits, left_out = pair(arguments.a, arguments.b, tuple(arguments.rows))
        choices = (arguments.resamples, arguments.confidence, arguments.seed)
        found = {f"split {split.name}": compare([split], *choices) for split in splits}
        if len(splits) > 1:
            found["mean of the splits"] = compare(splits, *choices)
    except ComparisonError as error:
        print(f"compare: {error}", file=sys.stderr)
        return 2
    print(f"A: {arguments.a}, {arguments.rows[0]}\nB: {arguments.b}, {arguments.rows[1]}\n")
    print(f"| | A | B | B − A, points | {arguments.confidence:.0%} interval |\n| --- | ---: | ---: | ---: | ---: |")
    for over, figures in found.items():
        for name, value in figures.items():
            cells = f"{value.a:.1%} | {value.b:.1%} | {100 * value.difference:+.1f}"
            print(f"| {over}, {TITLES[name]} | {cells} | {100 * value.low:+.1f} … {100 * value.high:+.1f} |")
    videos = len({number for split in splits for number in split.videos.tolist()})
    print(
        f"\n{videos:,} videos, {left_out} left out that not both could read; ",
        end="",
    )
    print(f"paired bootstrap over videos, {arguments.resamples:,} resamples, seed {arguments.seed}.")
    for note in limited:
        print(f"**{note}**")
    for difference in settings:
        print(f"not the same setting: {difference}")
    if arguments.output:
        differences = {
            over: {name: asdict(value) for name, value in figures.items()} for over, figures in found.items()
        }
        content = {"differences": differences, "left_out": left_out, "settings": settings, "limited": limited}
        try:
            arguments.output.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        except OSError as error:
            print(f"compare: {error}", file=sys.stderr)
            return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
