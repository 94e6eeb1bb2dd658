"""A user's process without the package: loads from the Hub that HF_ENDPOINT names. Run by test_hub.py, with JSON.

Writes what a repository computes, also in sentence-transformers, then what it computes saved again, then runs code as a
user would paste it.
"""

import contextlib
import io
import json
import sys
from pathlib import Path


def main(task: dict) -> dict:
    sys.path.insert(0, task["path"])
    import folder_outputs  # the script by itself: its package imports all of vitaclip_hf
    from safetensors.torch import save_file
    from transformers import pipeline

    sys.meta_path.insert(0, folder_outputs.PackageBlocker())
    outputs = folder_outputs.collect_outputs(task["repo"], task["video"], True)
    if task["texts"]:
        from sentence_transformers import SentenceTransformer

        model = SentenceTransformer(task["repo"], device="cpu", trust_remote_code=True)
        outputs |= {"text_vectors": model.encode(task["texts"], convert_to_tensor=True)}
        outputs |= {"video_vectors": model.encode([task["video"]], convert_to_tensor=True)}
    save_file(outputs, task["outputs"])
    # The pipeline's own save: a model's alone has no code of pipelines.
    loaded = pipeline("zero-shot-video-classification", model=task["repo"], trust_remote_code=True)
    loaded.save_pretrained(task["resave"])
    save_file(folder_outputs.collect_outputs(task["resave"], task["video"], True), f"{task['resave']}.safetensors")
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        exec(task["code"], {})
    return {"printed": printed.getvalue(), "package": folder_outputs.PACKAGE in sys.modules}


if __name__ == "__main__":
    print(json.dumps(main(json.loads(Path(sys.argv[1]).read_text()))))
