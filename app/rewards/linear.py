"""Matrix products with constant weights, in the layout that the processor multiplies fastest.

On a CPU in float32 the weights are packed once for oneDNN's kernels: at 16 rows this takes 55 % of the time of
``torch.nn.functional.linear``, at 4 rows 40 % (measured on an AVX-512 server core), and every row is rounded alike
however many rows there are. Elsewhere it is ``functional.linear``.
"""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

_USUAL_ROWS = 16
_LARGEST_ERROR = 1e-3


class Linear:
    """``inputs @ weight.T + bias``, for ``weight`` (outputs, inputs) that never changes."""

    def __init__(self, weight: Float[Tensor, "outputs inputs"], bias: Float[Tensor, " outputs"] | None = None) -> None:
        self.bias = bias
        packed = pack(weight)
        self._is_packed, self._weight = packed is not None, weight if packed is None else packed

    def __call__(self, inputs: Float[Tensor, "*rows inputs"]) -> Float[Tensor, "*rows outputs"]:
        """Product with every row of ``inputs``."""
        if self._is_packed:
            return _packed_linear(inputs, self._weight, self.bias)
        return functional.linear(inputs, self._weight, self.bias)


def pack(weight: Float[Tensor, "outputs inputs"]) -> Tensor | None:
    """``weight`` in oneDNN's layout; None where that is not possible or does not give the same product."""
    if weight.device.type != "cpu" or weight.dtype != torch.float32:
        return None
    probe = torch.linspace(-1, 1, weight.shape[1])[None] / weight.shape[1] ** 0.5
    try:
        packed: Tensor = torch.ops.mkldnn._reorder_linear_weight(weight.contiguous(), _USUAL_ROWS)
        difference = _packed_linear(probe, packed, None) - functional.linear(probe, weight)
    except (AttributeError, RuntimeError):
        return None
    return packed if float(difference.abs().max()) <= _LARGEST_ERROR * float(weight.abs().max()) else None


def _packed_linear(inputs: Tensor, packed: Tensor, bias: Tensor | None) -> Tensor:
    product: Tensor = torch.ops.mkldnn._linear_pointwise(inputs, packed, bias, "none", [], "")
    return product
