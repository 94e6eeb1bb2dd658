"""Class features of prompts padded to the longest, against all positions through transformers' own encoder."""

import pytest
import torch
from tiny_models import tiny_config, tiny_model
from transformers.activations import ACT2FN
from transformers.masking_utils import create_causal_mask
from transformers.models.clip.modeling_clip import CLIPEncoder

from vitaclip_hf import VitaClipModel
from vitaclip_hf.model.modeling_vita_clip import QuickGELU
from vitaclip_hf.model.prompts import AFTER_END, CONTEXT_SLOT


# 2, 5, 1, 2, 3 and 1 tokens: neither sorted nor all of one length.
NAMES = ["riding bike", "playing the drums with sticks", "archery", "tai chi", "throwing a ball", "yoga"]


def named_model(tokenizer, **text) -> VitaClipModel:
    """In float64, so that only different sums can make a difference."""
    return tiny_model(text=text, tokenizer=tokenizer, id2label=dict(enumerate(NAMES))).double().train()


def plain_class_features(model: VitaClipModel) -> torch.Tensor:
    """All positions of all classes, through the encoder of transformers."""
    text = model.text_model
    encoder = CLIPEncoder(text.config).double()
    encoder.load_state_dict(text.encoder.state_dict())
    for module in encoder.modules():
        assert not isinstance(module, QuickGELU)
    ids, context = model.class_prompts.class_input_ids, model.class_prompts.context
    longer = torch.full((*ids.shape, context.shape[-1]), 0.3).double()  # no matter what comes after the ends
    longer[ids >= 0] = text.embeddings.token_embedding(ids[ids >= 0])
    longer[ids == CONTEXT_SLOT] = context.expand(len(ids), -1, -1).flatten(0, 1)
    ends = (ids != AFTER_END).sum(1) - 1
    hidden_states = text.embeddings(inputs_embeds=longer)
    mask = create_causal_mask(text.config, hidden_states, None, None)
    hidden_states = encoder(hidden_states, mask, is_causal=True).last_hidden_state
    at_ends = text.final_layer_norm(hidden_states)[torch.arange(len(ends)), ends]
    return model.text_projection(at_ends)


def gradient(model: VitaClipModel, features: torch.Tensor) -> torch.Tensor:
    # Drawn in one type for all: torch 2.6 draws other numbers in bfloat16.
    weights = torch.randn(features.shape, generator=torch.Generator().manual_seed(1)).to(features.dtype)
    return torch.autograd.grad((features * weights).sum(), model.class_prompts.context)[0]


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("position", ["end", "front", "middle"])
@pytest.mark.parametrize("specific", [True, False])
def test_features_and_gradients_are_those_of_all_positions(tokenizer, position, specific, attention):
    model = named_model(tokenizer, context_position=position, class_specific_context=specific)
    model.set_attn_implementation(attention)
    assert model.class_prompts.lengths[0] + 3 < model.class_prompts.lengths[1] < 20
    expected = plain_class_features(model)
    features = model.get_class_features().pooler_output
    # The eager softmax is transformers' own and works in float32.
    atol, rtol = (5e-6, 1e-4) if attention == "eager" else (1e-13, 1e-10)
    torch.testing.assert_close(features, expected, atol=atol, rtol=rtol)
    expected_gradient = gradient(model, expected)
    assert expected_gradient.abs().max() > 1e-3
    torch.testing.assert_close(gradient(model, features), expected_gradient, atol=atol, rtol=rtol)


@torch.no_grad()
def test_no_position_behind_the_longest_prompt(tokenizer):
    """Also where the prompts were never measured: then all positions are computed, with the same features."""
    model = named_model(tokenizer)
    longest = max((model.class_prompts.class_input_ids != AFTER_END).sum(1))
    expected = model.get_class_features()
    assert expected.last_hidden_state.shape == (len(NAMES), longest, 32)
    loaded = VitaClipModel(model.config).double().train()
    for name, tensor in model.state_dict().items():
        owner, _, attribute = name.rpartition(".")
        getattr(loaded.get_submodule(owner), attribute).data = tensor  # as `from_pretrained`, which measures nothing
    compiled = torch.compile(loaded.get_class_features, fullgraph=True, backend="eager")()
    assert compiled.last_hidden_state.shape == (len(NAMES), 77, 32)
    torch.testing.assert_close(compiled.pooler_output, expected.pooler_output, atol=1e-13, rtol=1e-11)


def test_activation_is_replaced_only_where_it_is_quick_gelu():
    for activation, kind in (("quick_gelu", QuickGELU), ("gelu", type(ACT2FN["gelu"]))):
        model = VitaClipModel(tiny_config({"hidden_act": activation}, {"hidden_act": activation}))
        layers = [*model.text_model.encoder.layers, *model.vision_model.encoder.layers]
        assert all(type(layer.mlp.activation_fn) is kind for layer in layers)


# QuickGELU


STOCK = ACT2FN["quick_gelu"]


def values(dtype=torch.float32) -> torch.Tensor:
    drawn = torch.randn(4, 250, generator=torch.Generator().manual_seed(0)) * 5
    return drawn.to(dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
def test_values_are_transformers_own_to_the_bit(dtype):
    given = values(dtype)
    for with_gradient in (True, False):
        assert torch.equal(QuickGELU()(given.clone().requires_grad_(with_gradient)), STOCK(given))
    with torch.no_grad():
        assert torch.equal(QuickGELU()(given), STOCK(given))
    assert torch.equal(given, values(dtype))


def test_gradients_numerically():
    given = values(torch.float64)[:, :20].clone().requires_grad_()
    assert torch.autograd.gradcheck(QuickGELU(), given)


def test_keeps_its_input_and_nothing_else():
    kept = []
    leaf = values().requires_grad_()
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: kept.append(tensor) or tensor, lambda tensor: tensor):
        QuickGELU()(leaf)
    assert [tensor.data_ptr() for tensor in kept] == [leaf.data_ptr()]
