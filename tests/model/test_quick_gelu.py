import pytest
import torch
from transformers.activations import ACT2FN

from vitaclip_hf.model.quick_gelu import QuickGELU


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


def test_gradients_are_those_of_the_stock_formula():
    for dtype, tolerance in ((torch.float32, 1e-6), (torch.float64, 1e-14), (torch.bfloat16, 2e-2)):
        expected = with_gradient(STOCK, values(torch.float64))[1]
        ours = with_gradient(QuickGELU(), values(dtype))[1].double()
        if dtype == torch.bfloat16:
            expected = with_gradient(STOCK, values(dtype).double())[1]
        torch.testing.assert_close(ours, expected, atol=tolerance, rtol=tolerance)


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


@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
def test_compiles_as_one_graph(backend):
    torch.compiler.reset()
    compiled = torch.compile(QuickGELU(), fullgraph=True, backend=backend)
    for ours, expected in zip(with_gradient(compiled, values()), with_gradient(QuickGELU(), values()), strict=True):
        torch.testing.assert_close(ours, expected, atol=1e-6, rtol=1e-6)


def test_under_autocast():
    torch.manual_seed(0)
    linear = torch.nn.Linear(250, 8)

    def forward(activation):
        linear.zero_grad()
        with torch.autocast("cpu", torch.bfloat16):
            result = activation(linear(values()))
        result.float().sum().backward()
        return result, linear.weight.grad.clone()

    (ours, our_gradient), (stock, stock_gradient) = forward(QuickGELU()), forward(STOCK)
    assert ours.dtype == torch.bfloat16 and torch.equal(ours, stock)
    # bfloat16 rounds single entries otherwise: the gradients agree as wholes.
    assert (our_gradient - stock_gradient).norm() < 1e-2 * stock_gradient.norm()
