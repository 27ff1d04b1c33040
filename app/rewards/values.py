"""Value heads: what a beginning of a response promises, and what each next token adds, in basis rewards.

A directory ``values/`` inside a basis artifact, of ``manifest.json`` and ``values.safetensors``, bound to that basis and
to the model's weights and tokenizer. All heads are linear in the states that decoding computes anyway, so any mix of
basis rewards is one product. Needs numpy and safetensors only; does not run the model.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32, Float64, Int64

from app.entities import FrontierPoint

VALUES = "values"


@dataclass(frozen=True)
class ValueHeads:
    """Predictors of a finished response's basis rewards, offset included, from its first t tokens (t >= 1).

    With h_t (hidden,) the last hidden state of token t after the final norm, m_t the mean of h_1 … h_t, and b the last
    bucket with ``bounds[b] <= t``:

        V_j(s_t)             = weight[b, j] @ [h_t, m_t] + offset[b, j]
        Q_j(s_t, a) - V_j(s) = action_tokens[a] @ (action_states[j] @ h_t + action_offset[j])

    where a is the next token, an end mark included, and at t = 0 h_0 is the state of the prompt's last token.
    ``errors`` are covariances of (final - predicted) on held-out prompts. Guidance adds
    ``strength * scale * coefficients @ (Q - V)`` to the log-probabilities; ``scale`` was chosen on training prompts.
    """

    bounds: Int64[np.ndarray, " buckets"]
    weight: Float32[np.ndarray, "buckets basis twice_hidden"]
    offset: Float32[np.ndarray, "buckets basis"]
    errors: Float64[np.ndarray, "buckets basis basis"]
    action_states: Float32[np.ndarray, "basis rank hidden"]
    action_offset: Float32[np.ndarray, "basis rank"]
    action_tokens: Float32[np.ndarray, "vocabulary rank"]
    scale: float
    frontier: Sequence[FrontierPoint]
    manifest: Mapping[str, Any]


def values_directory(basis_directory: Path) -> Path | None:
    """Where a basis artifact keeps its value heads; None if it has none."""
    found = Path(basis_directory) / VALUES
    return found if (found / "manifest.json").is_file() else None
