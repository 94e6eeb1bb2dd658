"""The folder of an export: the file, its processor, tokenizer and configuration, class embeddings and a README."""

import importlib
import json
import os
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..loading.checkpoint import Checkpoint
from ..loading.guards import check_output
from .verification import Verification, verify


FORMATS = {"onnx": ".onnx_file", "openvino": ".openvino_file"}

README = """# {name} as {format}, {dtype}

Inputs: `pixel_values_videos` (videos, frames, 3, {size}, {size}), float32, and `class_embeds` (classes, {width}),
float32, normalised. Outputs: `logits` (videos, classes) and `video_embeds` (videos, {width}), normalised.
Videos, frames and classes can be any number; the model was made for {frames} frames. `export.json` says how near the
answers are to torch's.

Without vitaclip_hf, from `frames.npy` of shape ({frames}, {size}, {size}, 3), uint8, and `class_embeds.npy`:

```python
import numpy as np
{imports}

frames = np.load("frames.npy").astype(np.float32) / 255
pixels = (frames - np.float32({mean})) / np.float32({std})
pixels = pixels.transpose(0, 3, 1, 2)[None]
classes = np.load("class_embeds.npy")
{run}
scores = np.exp(logits - logits.max(-1, keepdims=True))
scores /= scores.sum(-1, keepdims=True)
print(scores[0].argmax(), scores[0].max())
```
"""
LINES = {
    "onnx": {
        "imports": "import onnxruntime",
        "run": 'session = onnxruntime.InferenceSession("model.onnx")\n'
        'inputs = {"pixel_values_videos": pixels, "class_embeds": classes}\n'
        'logits, embeds = session.run(["logits", "video_embeds"], inputs)',
    },
    "openvino": {
        "imports": "import openvino",
        "run": 'precision = {"INFERENCE_PRECISION_HINT": "CHOSEN"}\n'
        'model = openvino.Core().compile_model("openvino_model.xml", "CPU", precision)\n'
        'outputs = model({"pixel_values_videos": pixels, "class_embeds": classes})\n'
        'logits, embeds = outputs["logits"], outputs["video_embeds"]',
    },
}


def export_checkpoint(
    checkpoint: Checkpoint,
    output: str | Path,
    format: str = "onnx",
    dtype: str = "float32",
    *,
    labels: Sequence[str] | None = None,
    templates: str | Sequence[str] = "{}",
    check: bool = True,
) -> Verification | None:
    """
    Writes the video tower for another runtime, with what is needed to use it. The folder is there as a whole or not.

    Args:
        checkpoint ([`Checkpoint`]): on the CPU, in float32.
        output (`str` or `Path`): a new or empty folder.
        format (`str`, defaults to `"onnx"`): or `"openvino"`.
        dtype (`str`, defaults to `"float32"`): `"int8"`, or with OpenVINO `"bfloat16"`.
        labels (`Sequence[str]`, *optional*): their embeddings are written; by default those of the model's own classes.
        templates: sentences with `{}` for the label.
        check (`bool`, defaults to `True`): compare the file with torch.

    Returns:
        [`Verification`], or `None` without `check`.

    Raises:
        ValueError: an unknown format, a number type it does not have, a folder with files or whose path is not UTF-8,
            labels that do not fit, weights that are NaN or infinite.
        VerificationError: the file does not answer as torch does.
        ImportError: a package of the format is missing.
    """
    output = Path(output)
    if format not in FORMATS:
        raise ValueError(f"`format` must be one of {', '.join(FORMATS)}, got {format!r:.80}.")
    check_output(output, f"the {format} library", is_replaced=True)
    model: Any = checkpoint.model
    if model.dtype != torch.float32 or model.device.type != "cpu":
        raise ValueError(f"`checkpoint` must be float32 on the CPU, got {model.dtype} on {model.device}.")
    broken = [name for name, tensor in model.state_dict().items() if not torch.isfinite(tensor).all()]
    if broken:
        raise ValueError(f"`checkpoint` {checkpoint.name}: its {broken[0]} is NaN or infinite; the model is damaged.")
    backend = importlib.import_module(FORMATS[format], __package__)
    if dtype not in backend.DTYPES:
        raise ValueError(f"`dtype` {dtype!r:.80}: {format} files can be {', '.join(backend.DTYPES)}.")
    output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{output.name}-", dir=output.parent) as temporary:
        folder = Path(temporary, output.name)
        folder.mkdir()
        if labels is not None or model.class_prompts.have_names:
            names, embeds = checkpoint.encoder().class_embeds(labels, templates)
            np.save(folder / "class_embeds.npy", embeds.float().numpy())
            lines = (" ".join(name.splitlines()) for name in names)  # one line a label, whatever it holds
            (folder / "labels.txt").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        path = backend.write(model, folder, dtype)
        result = verify(model, backend.Runner(path, dtype), dtype) if check else None
        checkpoint.processor.save_pretrained(folder)
        model.config.save_pretrained(folder)
        record: dict[str, Any] = {"model": checkpoint.name, "fingerprint": checkpoint.fingerprint()}
        record |= {"format": format, "dtype": dtype, "verification": None if result is None else asdict(result)}
        (folder / "export.json").write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
        readme = _readme(checkpoint, format, dtype)
        (folder / "README.md").write_text(readme, encoding="utf-8", errors="backslashreplace")
        if output.exists():
            output.rmdir()
        os.replace(folder, output)
    return result


def _readme(checkpoint: Checkpoint, format: str, dtype: str) -> str:
    model, processor = checkpoint.model, checkpoint.processor.video_processor
    precision = "bf16" if dtype == "bfloat16" else "f32"  # of OpenVINO, whose default depends on the CPU
    text = README.format(
        name=Path(checkpoint.name).name,
        format=format,
        dtype=dtype,
        size=model.config.vision_config.image_size,
        width=model.config.projection_dim,
        frames=model.config.vision_config.num_frames,
        mean=list(processor.image_mean),
        std=list(processor.image_std),
        **LINES[format],
    )
    return text.replace("CHOSEN", precision)
