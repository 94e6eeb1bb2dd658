"""Every public forward exports with dynamic batch and frames, compiles as one graph, and depends on no tensor value."""

import pytest
import torch
from tiny_models import set_classes, tiny_model
from torch import nn
from torch.export import Dim

from vitaclip_hf import VitaClipForVideoClassification, VitaClipModel
from vitaclip_hf.model.text_embedding_cache import TextEmbeddingCache


class Forward(nn.Module):
    """One public way to scores, with videos (and texts) in and one tensor out."""

    def __init__(self, model: nn.Module, name: str):
        super().__init__()
        self.model, self.name = model, name

    def forward(self, videos: torch.Tensor, texts: torch.Tensor | None = None) -> torch.Tensor:
        outputs = self.model(videos) if texts is None else self.model(videos, input_ids=texts)
        return outputs.logits if self.name == "classifier" else outputs.logits_per_video


NAMES = ("texts", "own classes", "classifier")


def make_forward(tokenizer, name: str) -> tuple[Forward, tuple]:
    cls = VitaClipForVideoClassification if name == "classifier" else VitaClipModel
    model = tiny_model(tokenizer=tokenizer, cls=cls)
    arguments = (draw(2, 4),)
    if name == "texts":
        arguments += (tokenizer(["archery", "tai chi"], padding=True, return_tensors="pt").input_ids,)
    return Forward(model, name).eval(), arguments


def draw(batch: int, frames: int) -> torch.Tensor:
    return torch.randn(batch, frames, 3, 32, 32, generator=torch.Generator().manual_seed(batch * 100 + frames))


@pytest.mark.parametrize("name", NAMES)
def test_export_with_dynamic_batch_and_frames(tokenizer, name):
    forward, arguments = make_forward(tokenizer, name)
    sizes = {0: Dim("batch", min=1, max=64), 1: Dim("frames", min=1, max=64)}
    shapes = (sizes, None)[: len(arguments)]
    with torch.no_grad():
        exported = torch.export.export(forward, arguments, dynamic_shapes=shapes).module()
        for batch, frames in ((2, 4), (3, 7), (5, 2), (2, 16)):
            videos = draw(batch, frames)
            expected = forward(videos, *arguments[1:])
            torch.testing.assert_close(exported(videos, *arguments[1:]), expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize(("name", "training"), [("texts", False), ("classifier", False), ("own classes", True)])
def test_compiles_as_one_graph(tokenizer, name, training):
    forward, arguments = make_forward(tokenizer, name)
    forward.train(training)
    torch._dynamo.reset()
    compiled = torch.compile(forward, fullgraph=True, backend="aot_eager" if training else "eager")
    with torch.set_grad_enabled(training):
        found, expected = compiled(*arguments), forward(*arguments)
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=0)
    if training:
        found.sum().backward()
        assert forward.model.class_prompts.context.grad.abs().sum() > 0


def test_classes_that_are_renamed_after_tracing_are_measured_again(tokenizer):
    model = tiny_model(tokenizer=tokenizer)
    assert model.class_prompts.lengths == (8, 10)  # start, 4 of context, the name's 1, 3 or 2 tokens, stop, end
    set_classes(model, ["yoga"], tokenizer)
    assert model.class_prompts.lengths == (8, 8)
    model.class_prompts.class_input_ids[0, 7] = model.class_prompts.class_input_ids[0, 6]
    model.class_prompts.class_input_ids[0, 8] = model.config.text_config.eos_token_id
    assert model.class_prompts.lengths == (9, 9)


@pytest.mark.parametrize("assign", [False, True])
def test_classes_of_a_loaded_state_are_measured(tokenizer, assign):
    trained = tiny_model(tokenizer=tokenizer)
    loaded = VitaClipModel(trained.config).eval()
    loaded.load_state_dict(trained.state_dict(), assign=assign)
    assert loaded.class_prompts._lengths == trained.class_prompts.lengths == (8, 10)  # as a traced forward sees them


@pytest.mark.gpu
@pytest.mark.parametrize("name", ["own classes", "classifier"])
def test_cuda_graph_capture(tokenizer, name):
    """A graph cannot be captured where the host waits for the device."""
    forward, (videos,) = make_forward(tokenizer, name)
    forward, videos = forward.cuda(), videos.cuda()
    with torch.no_grad():
        stream = torch.cuda.Stream()
        with torch.cuda.stream(stream):
            expected = forward(videos)
            getattr(forward.model, "text_embedding_cache", TextEmbeddingCache()).clear()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            found = forward(videos)
        graph.replay()
    torch.testing.assert_close(found, expected)
