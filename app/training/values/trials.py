"""Tries the strength of guidance on training prompts, and chooses the scale that costs no fluency."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float64
from torch import Tensor

from app.entities import Conversation
from app.generation.batch.sampling import tilted
from app.rewards.artifact import BasisArtifact
from app.rewards.language import LanguageModel
from app.training.values.actions import ActionHeads
from app.training.values.finals import final_rewards
from app.training.values.rollouts import MAX_TOKENS, ROWS, Group, Rollout

SCALES = (0.5, 1.0, 2.0, 3.0, 4.0, 5.0, 6.5, 8.0, 10.0)
PROMPTS = 256
SERVED = (0.8, 0.95)
LESS_LIKELY, MORE_REPEATED = 0.05, 0.03
"""What strength may cost: nats a token under the base model, and share of repeated runs of four tokens."""
_RUN = 4


@dataclass(frozen=True)
class Trial:
    """What responses guided at one ``scale`` were like, on average; 0 is plain ones.

    ``preferred`` is how often the people for whom they were written would choose them over plain ones by their own
    reward (Bradley-Terry), ``divergence`` the nats by which a whole response's distribution was moved,
    ``log_probability`` that of a token under the base model, and ``repeated`` the share of runs of four tokens that
    occurred before.
    """

    scale: float
    preferred: float
    divergence: float
    log_probability: float
    repeated: float
    tokens: float


def try_scales(
    model: LanguageModel,
    artifact: BasisArtifact,
    heads: ActionHeads,
    prompts: Sequence[Conversation],
    *,
    max_tokens: int = MAX_TOKENS,
    seed: int = 0,
    progress: Callable[[int, int], None] = lambda *_: None,
) -> list[Trial]:
    """Answer each prompt for a person drawn from the basis' population, plainly and at every scale.

    Args:
        model: The language model, on the device of ``heads``.
        artifact: The basis, whose population people are drawn from.
        heads: Q - V.
        prompts: Conversations that the heads did not learn from.
        max_tokens: Where a response is cut.
        seed: Draws people and responses; all scales share their uniforms.
        progress: Told the scales done and how many there are.

    Returns:
        The plain trial and one a scale, in rising order.
    """
    people = artifact.basis.prior.population.draw(len(prompts), np.random.default_rng([seed, 2]))
    plain = _answer(model, None, prompts, people, max_tokens, seed + 1)
    compared = final_rewards(model, artifact, prompts, plain)
    trials = []
    for number, scale in enumerate((0.0, *SCALES)):
        guide = heads if scale else None
        answers = _answer(model, guide, prompts, scale * people, max_tokens, seed)
        margins = ((final_rewards(model, artifact, prompts, answers) - compared) * people).sum(axis=1)
        preferred = float(np.mean(1 / (1 + np.exp(-margins))))
        likely, moved = np.mean(
            [_likelihood(model, guide, one, weights) for one, weights in zip(answers, scale * people, strict=True)],
            axis=0,
        )
        repeated = float(np.mean([_repeated(one.tokens.tolist()) for one in answers]))
        length = float(np.mean([len(one.tokens) for one in answers]))
        trials.append(Trial(scale, preferred, float(moved), float(likely), repeated, length))
        progress(number + 1, 1 + len(SCALES))
    return trials


def choose_scale(trials: Sequence[Trial]) -> float:
    """The scale whose responses are preferred most, among those that cost no more fluency than allowed.

    Args:
        trials: The plain one, then one a scale in rising order. Fluency is compared with the smallest of them, which is
            what guidance is like that hardly moves anything: implausible tokens are left out there too.
    """
    _, weakest, *stronger = trials
    fluent = [
        one
        for one in stronger
        if one.log_probability >= weakest.log_probability - LESS_LIKELY
        and one.repeated <= weakest.repeated + MORE_REPEATED
    ]
    return max([weakest, *fluent], key=lambda one: one.preferred).scale


class _Guided(Group):
    """Responses that are each guided by weights on the basis rewards of their own."""

    explores = False
    heads: ActionHeads | None = None

    def guide(self, heads: ActionHeads, weights: Tensor) -> None:
        """Guide response r by ``weights[r]`` (rows, K)."""
        self.heads = heads
        self.reads = torch.einsum("nj,jrh->nrh", weights, heads.states)
        self.constants = weights @ heads.offset

    def _weighed(self, logits: Tensor) -> Tensor:
        if self.heads is None:
            return logits
        rows = torch.from_numpy(self.live).to(logits.device)
        found = (self.reads[rows] @ self.now.float()[:, :, None])[:, :, 0] + self.constants[rows]
        return tilted(logits, found @ self.heads.tokens.T)


def _answer(
    model: LanguageModel,
    heads: ActionHeads | None,
    prompts: Sequence[Conversation],
    weights: Float64[np.ndarray, "prompts basis"],
    max_tokens: int,
    seed: int,
) -> list[Rollout]:
    """One response to each prompt, guided by its row of ``weights`` unless there are no heads."""
    answers = []
    for start in range(0, len(prompts), ROWS):
        part = range(start, min(start + ROWS, len(prompts)))
        encoded = [model.tokenizer.prompt_ids(prompts[number]) for number in part]
        group = _Guided(model, encoded, 1, max_tokens, SERVED, np.random.default_rng([seed, start]))
        if heads is not None:
            group.guide(heads, torch.from_numpy(weights[part.start : part.stop]).to(model.device).float())
        answers += list(group.rollouts(part))
    return answers


@torch.inference_mode()
def _likelihood(
    model: LanguageModel, heads: ActionHeads | None, answer: Rollout, weights: Float64[np.ndarray, " basis"]
) -> tuple[float, float]:
    """Mean log-probability of a token under the base model, and the nats by which guidance moved the response."""
    states = torch.from_numpy(answer.states[: len(answer.tokens) + answer.ended]).to(model.device).float()
    logits = model.network.logits(states.to(model.network.embedding.dtype)).float()
    tokens = torch.from_numpy(answer.tokens.astype(np.int64)).to(model.device)
    likely = torch.log_softmax(logits[: len(tokens)], dim=-1).gather(1, tokens[:, None]).mean()
    if heads is None:
        return float(likely), 0.0
    mix = torch.from_numpy(weights).to(model.device).float()
    found = states @ torch.tensordot(mix, heads.states, 1).T + mix @ heads.offset
    before = torch.log_softmax(logits / SERVED[0], dim=-1)
    after = torch.log_softmax(tilted(logits / SERVED[0], found @ heads.tokens.T), dim=-1)
    moved = torch.where(after.isfinite(), after.exp() * (after - before), 0.0).sum()
    return float(likely), float(moved)


def _repeated(tokens: Sequence[int]) -> float:
    runs = [tuple(tokens[start : start + _RUN]) for start in range(len(tokens) - _RUN + 1)]
    return 1 - len(set(runs)) / len(runs) if runs else 0.0
