"""Draws the next token of every candidate: greedy, or by inverse CDF from the nucleus.

Candidate i uses its own stream of uniforms, a function of (seed, i) alone, so that drawing more candidates never
changes the first ones. Knows no network and no text.
"""

import numpy as np
import torch
from jaxtyping import Float, Float64, Int
from torch import Tensor

_USUAL_NUCLEUS = 256
_BELOW_ONE = 1 - 2**-50


def draw_uniforms(seed: int, n: int, max_tokens: int) -> Float64[Tensor, "n tokens 2"]:
    """Uniforms in [0, 1) for ``n`` candidates; row i depends on (seed, i), its first entries not on ``max_tokens``.

    Args:
        seed: Any integer; taken modulo 2**64.
        n: Number of candidates.
        max_tokens: Tokens that a candidate may generate; each has two uniforms.
    """
    streams = [np.random.default_rng([seed % 2**64, number]).random((max_tokens, 2)) for number in range(n)]
    return torch.from_numpy(np.stack(streams))


def choose_tokens(
    logits: Float[Tensor, "rows vocabulary"],
    uniforms: Float64[Tensor, "rows 2"],
    *,
    temperature: float,
    top_p: float,
) -> Int[Tensor, " rows"]:
    """One token a row, from softmax(logits / temperature) restricted to its nucleus of mass ``top_p``.

    Draws from the whole distribution first; only where that token lies outside the nucleus, which happens to a share
    of at most 1 - ``top_p`` of the rows, is the row sorted and a second draw made within the nucleus. The outcome is
    distributed as if every row had been sorted.

    Args:
        logits: Unnormalised log-probabilities; minus infinity where a token is banned.
        uniforms: Two numbers in [0, 1) a row, one for each draw; they alone decide. Unused at temperature 0.
        temperature: 0 takes the most probable token.
        top_p: Share in (0, 1] of the mass that the nucleus, the smallest set of most probable tokens, must reach.

    Source:
        Holtzman et al., "The Curious Case of Neural Text Degeneration" (2020), sec. 3.1.
    """
    if temperature == 0:
        return logits.argmax(dim=-1)
    probabilities = torch.softmax(logits.float() / temperature, dim=-1)
    tokens = _invert(probabilities.cumsum(dim=-1, dtype=torch.float64), uniforms[:, 0])
    if top_p >= 1:
        return tokens
    of_token = probabilities.gather(-1, tokens[:, None])
    more_probable = torch.where(probabilities > of_token, probabilities, 0.0).sum(dim=-1)
    outside = (more_probable >= top_p).nonzero()[:, 0]
    if len(outside):
        tokens[outside] = _draw_in_nucleus(probabilities[outside], uniforms[outside, 1], top_p)
    return tokens


def _draw_in_nucleus(probabilities: Tensor, uniforms: Tensor, top_p: float) -> Tensor:
    """Tokens (rows,) from the nuclei; sorts only the most probable ones where these hold every nucleus."""
    size = min(_USUAL_NUCLEUS, probabilities.shape[-1])
    top, tokens = probabilities.topk(size, dim=-1)
    if bool((top.sum(dim=-1) < top_p).any()):
        top, tokens = probabilities.sort(dim=-1, descending=True)
    mass_before = top.cumsum(dim=-1, dtype=torch.float64) - top
    inside = torch.where(mass_before < top_p, top, 0.0)
    places = _invert(inside.cumsum(dim=-1, dtype=torch.float64), uniforms)
    return tokens.gather(-1, places[:, None])[:, 0]


def _invert(cumulative: Tensor, uniforms: Tensor) -> Tensor:
    """First index whose cumulative mass exceeds the uniform share of the whole; never one without mass."""
    targets = uniforms[:, None] * (cumulative[:, -1:] * _BELOW_ONE)
    return torch.searchsorted(cumulative, targets, right=True)[:, 0]
