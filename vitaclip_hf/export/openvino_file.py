"""The video tower as OpenVINO IR, through transformers' own exporter. Needs openvino, and nncf for int8."""

import copy
from pathlib import Path
from typing import Any

import numpy as np
import openvino
import torch
from transformers.exporters import OpenVINOConfig, OpenVINOExporter

from ..model.prompts import VisionPrompts
from .video_scorer import DYNAMIC_SIZES, INPUTS, OUTPUTS, VideoScorer, sample_inputs


FILE = "openvino_model.xml"
# What to compile with. The default is bfloat16 on CPUs that multiply it fast, whatever the file holds.
PRECISIONS = {"float32": "f32", "bfloat16": "bf16", "int8": "f32"}
DTYPES = tuple(PRECISIONS)


def write(model: Any, folder: Path, dtype: str) -> Path:
    """
    Writes `openvino_model.xml` and `openvino_model.bin`.

    Args:
        model ([`VitaClipModel`]): in evaluation, float32, on the CPU.
        folder (`Path`): where to.
        dtype (`str`):
            `"float32"`; `"bfloat16"`: the same file, checked as OpenVINO multiplies it in bfloat16; or `"int8"`:
            weights stored as int8, multiplied in float32.
    """
    inputs = dict(zip(INPUTS, sample_inputs(model, 2, 4, 3), strict=True))
    config = OpenVINOConfig(dynamic_shapes=DYNAMIC_SIZES, stateful=False)
    scorer = VideoScorer(copy.deepcopy(model)).eval()
    for part in scorer.modules():  # over the frames: OpenVINO's fused attention stays at one frame if that came first
        if isinstance(part, VisionPrompts) and part.summary_attention is not None:
            part.summary_attention.config = copy.deepcopy(part.summary_attention.config)
            part.summary_attention.config._attn_implementation = "eager"
    program, _ = OpenVINOExporter().export_program(scorer, inputs, config)
    for output, name in zip(program.outputs, OUTPUTS, strict=True):
        output.get_tensor().set_names({name})
    if dtype == "int8":
        import nncf

        program = nncf.compress_weights(program, mode=nncf.CompressWeightsMode.INT8_ASYM)
    openvino.save_model(program, folder / FILE, compress_to_fp16=False)
    return folder / FILE


class Runner:
    """Runs the file on the CPU; arrays in, `(logits, video_embeds)` out."""

    def __init__(self, path: Path, dtype: str):
        options: dict[str, Any] = {"INFERENCE_PRECISION_HINT": PRECISIONS[dtype]}
        options["INFERENCE_NUM_THREADS"] = torch.get_num_threads()  # as torch, beside which it is timed
        self._model = openvino.Core().compile_model(path, "CPU", options)

    def __call__(self, pixels: np.ndarray, classes: np.ndarray) -> list[np.ndarray]:
        found = self._model(dict(zip(INPUTS, (pixels, classes), strict=True)))
        return [found[name] for name in OUTPUTS]
