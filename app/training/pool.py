"""Builds question pools: from written responses, or from the model's own, chosen to differ."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float64

from app.entities import Candidate, Message
from app.errors import ArtifactError
from app.rewards.artifact import BasisArtifact
from app.rewards.language import LanguageModel
from app.rewards.pool import PoolPrompt, load_pool, save_pool
from app.rewards.scorer import basis_rewards
from app.rewards.trunk_transformers import trunk_of
from app.training.generate import generate

DRAWN_FOR_EACH_KEPT = 4


def generated_pool(
    model: LanguageModel,
    artifact: BasisArtifact,
    prompts: Sequence[str],
    responses: int,
    topic: str,
    seed: int,
    progress: Callable[[], None],
) -> list[PoolPrompt]:
    """Responses drawn from the model, of which the ones that differ most in basis rewards are kept.

    Only responses that end by themselves are kept; a prompt with fewer than two of them is left out.

    Raises:
        ArtifactError: If no prompt gives two different finished responses.
    """
    conversations = [(Message("user", text),) for text in prompts]
    drawn = generate(
        model,
        conversations,
        responses * DRAWN_FOR_EACH_KEPT,
        temperatures=(0.7, 0.9, 1.0),
        max_tokens=128,
        seed=seed,
        progress=progress,
    )
    trunk = trunk_of(artifact, model)
    pool = []
    for number, (conversation, candidates) in enumerate(zip(conversations, drawn, strict=True)):
        texts = _finished(candidates)
        if len(texts) >= 2:
            rewards = basis_rewards(trunk, artifact, [(conversation, text) for text in texts])
            kept = spread_out(rewards, min(responses, len(texts)))
            pool.append(PoolPrompt(f"p{number:04d}", topic, prompts[number], tuple(texts[i] for i in kept)))
    if not pool:
        raise ArtifactError("No prompt gave two different finished responses; use other prompts or another model.")
    return pool


def _finished(candidates: Sequence[Candidate]) -> list[str]:
    return list(
        dict.fromkeys(one.text.strip() for one in candidates if one.finish_reason == "stop" and one.text.strip())
    )


def spread_out(rewards: Float64[np.ndarray, "texts basis"], count: int) -> list[int]:
    """Indices of ``count`` texts far from each other: the one farthest from the mean, then greedily max-min."""
    chosen = [int(np.argmax(((rewards - rewards.mean(0)) ** 2).sum(1)))]
    while len(chosen) < count:
        distances = ((rewards[:, None] - rewards[chosen][None]) ** 2).sum(-1).min(1)
        chosen.append(int(np.argmax(distances)))
    return chosen


def score_pool(model: LanguageModel, artifact: BasisArtifact, prompts: Sequence[PoolPrompt], out: Path) -> int:
    """Compute every response's basis rewards, write the pool, and return its number of pairs."""
    rows = [((Message("user", one.prompt),), text) for one in prompts for text in one.responses]
    save_pool(out, prompts, basis_rewards(trunk_of(artifact, model), artifact, rows), artifact.basis.version)
    return len(load_pool(out, artifact.basis).pairs)
