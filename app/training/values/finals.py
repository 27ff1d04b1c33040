"""Basis rewards of finished rollouts, from the states that they were written with or from the basis' own trunk."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float64

from app.entities import Conversation
from app.rewards.artifact import BasisArtifact
from app.rewards.language import LanguageModel
from app.rewards.scorer import basis_rewards
from app.rewards.trunk_transformers import trunk_of
from app.training.values.rollouts import Rollout


def final_rewards(
    model: LanguageModel, artifact: BasisArtifact, prompts: Sequence[Conversation], rollouts: Sequence[Rollout]
) -> Float64[np.ndarray, "rollouts basis"]:
    """As decoding reports them: the mean over a response's tokens, or what another trunk makes of its text."""
    if artifact.trunk is None:
        means = np.array([one.states[1:].mean(axis=0, dtype=np.float64) for one in rollouts])
        return np.asarray(means @ artifact.heads.astype(np.float64).T + artifact.offset)
    texts = [model.tokenizer.text(one.tokens.tolist()).strip() for one in rollouts]
    rows = [(prompts[one.prompt], text) for one, text in zip(rollouts, texts, strict=True)]
    return basis_rewards(trunk_of(artifact, model), artifact, rows, truncate=True)
