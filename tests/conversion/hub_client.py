"""A user's process: loads from the Hub that HF_ENDPOINT names. Run by test_hub.py, with JSON for argument and answer.

`outputs` writes what a repository computes. `attempts` tells how `load_checkpoint` fails on some repositories. `resave`
loads, saves again and writes what the saved folder computes. `code` is run as a user would paste it.
"""

import contextlib
import io
import json
import sys
from pathlib import Path


def main(task: dict) -> dict:
    sys.path[:0] = task["path"]
    import folder_outputs  # the script by itself: its package imports all of vitaclip_hf
    from safetensors.torch import save_file
    from transformers import pipeline

    if task["without_package"]:
        sys.meta_path.insert(0, folder_outputs.PackageBlocker())
    else:
        __import__(folder_outputs.PACKAGE)
    trust = task["without_package"] or None
    answer: dict = {"attempts": {}}
    if "outputs" in task:
        outputs = folder_outputs.collect_outputs(task["repo"], task["video"], trust)
        save_file(outputs, task["outputs"])
    for repo in task.get("attempts", []):
        try:
            sys.modules["vitaclip_hf"].load_checkpoint(repo)
            answer["attempts"][repo] = ["loaded", ""]
        except (OSError, ValueError) as error:
            answer["attempts"][repo] = [type(error).__name__, str(error)]
    if "resave" in task:
        # The pipeline's own save: a model's alone has no code of pipelines.
        loaded = pipeline("zero-shot-video-classification", model=task["repo"], trust_remote_code=trust)
        loaded.save_pretrained(task["resave"])
        resaved = folder_outputs.collect_outputs(task["resave"], task["video"], trust)
        save_file(resaved, f"{task['resave']}.safetensors")
    answer["printed"] = []
    for block in task.get("code", []):
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            exec(block, {})
        answer["printed"].append(printed.getvalue())
    answer["package"] = folder_outputs.PACKAGE in sys.modules
    return answer


if __name__ == "__main__":
    print(json.dumps(main(json.loads(Path(sys.argv[1]).read_text()))))
