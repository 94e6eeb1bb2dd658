"""Training; also `accelerate launch -m vitaclip_hf.cli.train`."""

import sys

from ..training.run import main


if __name__ == "__main__":
    sys.exit(main())
