"""The video tower as an ONNX file, for ONNX Runtime. Needs onnx, onnxscript and onnxruntime."""

import logging
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
from onnxruntime.quantization import QuantType, quantize_dynamic

from .video_scorer import DYNAMIC_SIZES, INPUTS, OUTPUTS, VideoScorer, sample_inputs


FILE = "model.onnx"
DTYPES = ("float32", "int8")  # ONNX Runtime has no bfloat16 products on CPUs


# What these say while they work is about their own passes.
for name in ("onnxscript", "onnx_ir"):
    logging.getLogger(name).setLevel(logging.ERROR)


@torch.no_grad()
def write(model: Any, folder: Path, dtype: str) -> Path:
    """
    Writes `model.onnx`.

    Args:
        model ([`VitaClipModel`]): in evaluation, float32, on the CPU.
        folder (`Path`): where to.
        dtype (`str`): `"float32"`, or `"int8"`: weights of the products as int8, activations quantised as they come.
    """
    path, whole = folder / FILE, folder / (FILE if dtype == "float32" else "float32.onnx")
    shapes = tuple(DYNAMIC_SIZES[name] for name in INPUTS)
    program: Any = torch.onnx.export(
        VideoScorer(model).eval(),
        sample_inputs(model, 2, 4, 3),
        dynamic_shapes=shapes,
        input_names=list(INPUTS),
        output_names=list(OUTPUTS),
        dynamo=True,
        verbose=False,
    )
    program.save(whole)  # the weights of a large model go to a file beside it
    if dtype == "int8":
        quantize_dynamic(whole, path, ["MatMul", "Gemm"], per_channel=True, weight_type=QuantType.QInt8)
        for left in folder.glob("float32.onnx*"):
            left.unlink()
    return path


class Runner:
    """Runs the file on the CPU; arrays in, `(logits, video_embeds)` out."""

    def __init__(self, path: Path, dtype: str = "float32"):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()  # as torch, beside which it is timed
        self._session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])

    def __call__(self, pixels: np.ndarray, classes: np.ndarray) -> list[np.ndarray]:
        return self._session.run(list(OUTPUTS), dict(zip(INPUTS, (pixels, classes), strict=True)))
