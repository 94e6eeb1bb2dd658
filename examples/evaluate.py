"""Evaluates a Vita-CLIP checkpoint under a protocol: `vitaclip evaluate`, as a script for `accelerate launch`.

accelerate launch examples/evaluate.py --model M --protocol hmdb51-zero-shot --videos DIR --annotations DIR
accelerate launch examples/evaluate.py --model M --protocol own-zero-shot --videos DIR    (a folder for each class)
"""

import sys

from vitaclip_hf.cli.main import main


if __name__ == "__main__":
    sys.exit(main(["evaluate", *sys.argv[1:]]))
