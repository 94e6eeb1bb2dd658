"""Evaluation; also `accelerate launch -m vitaclip_hf.cli.evaluate`."""

import sys

from ..evaluation.run import main


if __name__ == "__main__":
    sys.exit(main())
