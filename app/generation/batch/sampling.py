"""Draws the next token of every candidate: greedy, or by inverse CDF from the nucleus.

Candidate i uses its own stream of uniforms, a function of (seed, i) alone, so that drawing more candidates never
changes the first ones. Rows of different requests are drawn together, each with its own settings. Knows no network
and no text.
"""

import numpy as np
import torch
from jaxtyping import Float, Float64, Int
from torch import Tensor

PLAUSIBLE = 0.004
"""Guidance draws no token less probable than this share of the most probable one, whatever the tilt promises."""

LEAST_TEMPERATURE = 1e-6
"""Lower temperatures above 0 are raised to this, which is as good as greedy: quotients of 32 bits would overflow."""

_USUAL_NUCLEUS = 256
_BELOW_ONE = 1 - 2**-50


def draw_uniforms(seed: int, n: int, max_tokens: int) -> Float64[Tensor, "n tokens 2"]:
    """Uniforms in [0, 1) for ``n`` candidates; row i depends on (seed, i), its first entries not on ``max_tokens``.

    Args:
        seed: Any integer; taken modulo 2**64.
        n: Number of candidates.
        max_tokens: Tokens that a candidate may generate; each has two uniforms.
    """
    return torch.stack([uniform_stream(seed, number, 0, max_tokens) for number in range(n)])


def uniform_stream(seed: int, number: int, continuation: int, max_tokens: int) -> Float64[Tensor, "tokens 2"]:
    """The uniforms of candidate ``number``, or of another ``continuation`` of its blocks than the plain one, 0."""
    source = [seed % 2**64, number] + ([continuation] if continuation else [])
    return torch.from_numpy(np.random.default_rng(source).random((max_tokens, 2)))


def choose_tokens(
    logits: Float[Tensor, "rows vocabulary"],
    uniforms: Float64[Tensor, "rows 2"],
    *,
    temperature: float | Float[Tensor, " rows"],
    top_p: float | Float64[Tensor, " rows"],
) -> Int[Tensor, " rows"]:
    """One token a row, from softmax(logits / temperature) restricted to its nucleus of mass ``top_p``.

    Args:
        logits: Unnormalised log-probabilities; minus infinity where a token is banned.
        uniforms: Two numbers in [0, 1) a row, one for each draw; they alone decide. Unused at temperature 0.
        temperature: For all rows or one a row; 0 takes the most probable token.
        top_p: Share in (0, 1] of the mass that the nucleus, the smallest set of most probable tokens, must reach.
    """
    temperatures = torch.as_tensor(temperature, dtype=torch.float32, device=logits.device).expand(len(logits))
    shares = torch.as_tensor(top_p, dtype=torch.float64, device=logits.device).expand(len(logits))
    greedy = temperatures == 0
    drawn = draw_tokens(tempered(logits.clone(), temperatures), uniforms, shares)
    return torch.where(greedy, logits.argmax(dim=-1), drawn) if bool(greedy.any()) else drawn


def tempered(
    logits: Float[Tensor, "rows vocabulary"], temperature: Float[Tensor, " rows"]
) -> Float[Tensor, "rows vocabulary"]:
    """``logits / temperature`` in 32 bits, possibly in place; rows at temperature 0 stay as they are."""
    divisors = torch.where(temperature == 0, 1.0, temperature)
    return logits.float().div_(divisors[:, None])


def tilted(
    logits: Float[Tensor, "rows vocabulary"], tilt: Float[Tensor, "rows vocabulary"]
) -> Float[Tensor, "rows vocabulary"]:
    """``logits + tilt`` for the tokens that are plausible without the tilt, minus infinity for the others.

    With logits that are tempered already, a token's probability becomes proportional to pi(a)^(1/T) exp(tilt(a)).

    Source:
        Mudgal et al., "Controlled Decoding from Language Models" (2024), eq. 3.
    """
    least = logits.amax(dim=-1, keepdim=True) + float(np.log(PLAUSIBLE))
    return torch.where(logits >= least, logits + tilt, -torch.inf)


def draw_tokens(
    logits: Float[Tensor, "rows vocabulary"], uniforms: Float64[Tensor, "rows 2"], top_p: Float64[Tensor, " rows"]
) -> Int[Tensor, " rows"]:
    """One token a row from softmax(logits), restricted to its nucleus of mass ``top_p``.

    Draws from the whole distribution first; only where that token lies outside the nucleus, which happens to a share
    of at most 1 - ``top_p`` of the rows, is the row sorted and a second draw made within the nucleus. The outcome is
    distributed as if every row had been sorted. Off the CPU all rows are sorted, since looking costs more there.

    Source:
        Holtzman et al., "The Curious Case of Neural Text Degeneration" (2020), sec. 3.1.
    """
    probabilities = torch.softmax(logits, dim=-1)
    tokens = _invert(probabilities.cumsum(dim=-1, dtype=torch.float64), uniforms[:, 0])
    of_token = probabilities.gather(-1, tokens[:, None])
    more_probable = torch.where(probabilities > of_token, probabilities, 0.0).sum(dim=-1)
    is_outside = (more_probable >= top_p) & (top_p < 1)
    if logits.device.type != "cpu":
        return torch.where(is_outside, _draw_in_nucleus(probabilities, uniforms[:, 1], top_p), tokens)
    outside = is_outside.nonzero()[:, 0]
    if len(outside):
        tokens[outside] = _draw_in_nucleus(probabilities[outside], uniforms[outside, 1], top_p[outside])
    return tokens


def _draw_in_nucleus(probabilities: Tensor, uniforms: Tensor, top_p: Tensor) -> Tensor:
    """Tokens (rows,) from the nuclei; on a CPU sorts only the most probable ones of rows whose nucleus they hold."""
    if probabilities.device.type != "cpu":
        return _draw_sorted(*probabilities.sort(dim=-1, descending=True), uniforms, top_p)
    top, order = probabilities.topk(min(_USUAL_NUCLEUS, probabilities.shape[-1]), dim=-1)
    tokens = _draw_sorted(top, order, uniforms, top_p)
    wide = (top.sum(dim=-1) < top_p).nonzero()[:, 0]  # row by row: equally probable tokens are ordered otherwise
    if len(wide):
        tokens[wide] = _draw_sorted(*probabilities[wide].sort(dim=-1, descending=True), uniforms[wide], top_p[wide])
    return tokens


def _draw_sorted(top: Tensor, order: Tensor, uniforms: Tensor, top_p: Tensor) -> Tensor:
    mass_before = top.cumsum(dim=-1, dtype=torch.float64) - top
    inside = torch.where(mass_before < top_p[:, None], top, 0.0)
    places = _invert(inside.cumsum(dim=-1, dtype=torch.float64), uniforms)
    return order.gather(-1, places[:, None])[:, 0]


def _invert(cumulative: Tensor, uniforms: Tensor) -> Tensor:
    """First index whose cumulative mass exceeds the uniform share of the whole; never one without mass.

    A row that is not finite yields some index: what is wrong shows in its rewards, and harms no other row.
    """
    targets = uniforms[:, None] * (cumulative[:, -1:] * _BELOW_ONE)
    return torch.searchsorted(cumulative, targets, right=True)[:, 0].clamp_(max=cumulative.shape[1] - 1)
