import pytest
import torch
from transformers.activations import ACT2FN

from vitaclip_hf.model.modeling_vita_clip import QuickGELU


STOCK = ACT2FN["quick_gelu"]


def values(dtype=torch.float32) -> torch.Tensor:
    drawn = torch.randn(4, 250, generator=torch.Generator().manual_seed(0)) * 5
    return drawn.to(dtype)


def with_gradient(activation, given: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    leaf = given.clone().requires_grad_()
    result = activation(leaf)
    weights = torch.linspace(-1, 1, result.numel(), dtype=result.dtype).view_as(result)
    (result * weights).sum().backward()
    return result.detach(), leaf.grad


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
def test_values_are_transformers_own_to_the_bit(dtype):
    given = values(dtype)
    assert torch.equal(with_gradient(QuickGELU(), given)[0], STOCK(given))
    assert torch.equal(QuickGELU()(given), STOCK(given))
    with torch.no_grad():
        assert torch.equal(QuickGELU()(given.clone().requires_grad_()), STOCK(given))
    assert torch.equal(given, values(dtype))


def test_gradients_numerically_and_of_second_order():
    given = values(torch.float64)[:, :20].clone().requires_grad_()
    assert torch.autograd.gradcheck(QuickGELU(), given)
    assert torch.autograd.gradgradcheck(QuickGELU(), given)


def test_keeps_its_input_and_nothing_else():
    kept = []
    leaf = values().requires_grad_()
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: kept.append(tensor) or tensor, lambda tensor: tensor):
        QuickGELU()(leaf)
    assert [tensor.data_ptr() for tensor in kept] == [leaf.data_ptr()]
