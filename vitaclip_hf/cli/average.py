"""Mean ± standard deviation over evaluations of models that were trained with different seeds.

python examples/average_seeds.py SEED0/results.json SEED1/results.json SEED2/results.json [--output mean.json]
"""

import argparse
import sys
from pathlib import Path

from ..evaluation.report import write_json
from ..evaluation.seed_average import SeedAverageError, average_over_seeds, seeds_table


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", nargs="+", type=Path, help="results.json of each seed")
    parser.add_argument("--output", type=Path, help="JSON file to write")
    arguments = parser.parse_args()
    try:
        average = average_over_seeds(arguments.results)
        print(seeds_table(average))
        if arguments.output:
            write_json(arguments.output, average)
    except (OSError, SeedAverageError) as error:
        print(f"average_seeds: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
