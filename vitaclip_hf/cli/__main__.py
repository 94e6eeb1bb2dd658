"""`python -m vitaclip_hf.cli`: the `vitaclip` command."""

import sys

from .main import main


if __name__ == "__main__":
    sys.exit(main())
