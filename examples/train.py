"""Trains Vita-CLIP's prompts on a frozen CLIP: `vitaclip train`, as a script for `accelerate launch`.

    accelerate launch examples/train.py own-folder --videos my_videos
    accelerate launch --config_file configuration/accelerate/ddp.yaml examples/train.py vita-clip-k400 \\
        --videos k400/videos --annotations k400/annotations --total-batch-size 256 --bf16
    python examples/train.py own-folder --videos my_videos --output-dir runs/mine --resume
"""

import sys

from vitaclip_hf.cli.main import main


if __name__ == "__main__":
    sys.exit(main(["train", *sys.argv[1:]]))
