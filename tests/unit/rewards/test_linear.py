import pytest
import torch
from torch.nn import functional

from app.rewards.linear import Linear, pack


def _weights() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(96, 64, generator=generator), torch.randn(96, generator=generator)


@pytest.mark.parametrize("shape", [(1, 64), (4, 64), (17, 64), (3, 5, 64), (2, 1, 64)])
def test_the_product_is_that_of_torch(shape: tuple[int, ...]) -> None:
    weight, bias = _weights()
    inputs = torch.randn(shape, generator=torch.Generator().manual_seed(2))
    torch.testing.assert_close(Linear(weight, bias)(inputs), functional.linear(inputs, weight, bias), atol=1e-4, rtol=0)


def test_without_packing_the_product_is_exactly_that_of_torch() -> None:
    weight, bias = (tensor.double() for tensor in _weights())
    inputs = torch.randn((4, 64), generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    assert torch.equal(Linear(weight, bias)(inputs), functional.linear(inputs, weight, bias))


def test_weights_in_another_precision_are_not_packed() -> None:
    assert pack(_weights()[0].bfloat16()) is None


def test_a_kernel_that_multiplies_wrongly_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.rewards.linear._packed_linear", lambda inputs, packed, bias: inputs.new_ones(1, 96))
    assert pack(_weights()[0]) is None
