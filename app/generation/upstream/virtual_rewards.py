"""Basis rewards read from another server's log-probabilities, where it serves a checkpoint with the basis in it.

Such a checkpoint has the reward heads as rows of its output matrix (``rewards.export``), so the step that predicts the
next token tells the rewards of the text before it. Rewards of the last token need one step more, which is asked for and
dropped. Needs a server that returns log-probabilities of chosen tokens from chat completions, as vLLM does.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float64

from app.entities import Candidate, Conversation, FinishReason, SamplingOptions
from app.errors import ArtifactIncompatible, EngineUnreachable, NonFiniteReward
from app.generation.batch.written import clean, stop_place, tokens_within
from app.generation.upstream.upstream_replies import Choice, StepLogprobs, finish_of
from app.rewards.artifact import BasisArtifact
from app.rewards.export import MOST_STOCK_REWARDS, ExportedCheckpoint, read_description
from app.rewards.language import ChatTokenizer

_NEVER = -100
_ID = "token_id:"


def read_export(directory: Path, artifact: BasisArtifact) -> ExportedCheckpoint:
    """The description of the checkpoint that the upstream serves; its weights may be elsewhere.

    Raises:
        ArtifactError: If ``directory`` holds no readable ``attune.json``.
        ArtifactIncompatible: If it names another basis or model, or a server cannot return as many rewards.
    """
    found = read_description(directory)
    has = found.basis_version, found.rows.rewards, found.model_sha256
    if has != (artifact.basis.version, len(artifact.heads), artifact.manifest["model"]["sha256"]):
        raise ArtifactIncompatible(
            f"The checkpoint in {directory} holds basis {found.basis_version} on model '{found.model_name}', not "
            f"{artifact.basis.version}; write it again with 'attune engine export' and serve that."
        )
    if found.rows.rewards > MOST_STOCK_REWARDS:
        raise ArtifactIncompatible(
            f"Basis {found.basis_version} has {found.rows.rewards} rewards, and servers return at most "
            f"{MOST_STOCK_REWARDS}; leave the export out, so that the engine's own trunk reads them."
        )
    return found


@dataclass(frozen=True)
class VirtualRewards:
    """Asks for the reward rows of ``export``, and reads them; ``tokenizer`` is the model's."""

    export: ExportedCheckpoint
    tokenizer: ChatTokenizer

    def messages(self, conversation: Conversation) -> list[dict[str, str]]:
        """The conversation so that the server reads the tokens that the trunk reads."""
        return [{"role": one.role, "content": self.tokenizer.defused(one.content)} for one in conversation]

    def unspoken(self) -> dict[str, Any]:
        """What keeps virtual and special tokens out of texts, as a part of a request."""
        rows = self.export.rows
        return {
            "logit_bias": {str(token): _NEVER for token in (*self.tokenizer.banned_ids, *range(rows.first, rows.end))}
        }

    def asked(self, options: SamplingOptions) -> dict[str, Any]:
        """What asks for the rewards of a completion, as a part of a request; one token more than is wanted."""
        rows = self.export.rows
        return {
            **self.unspoken(),
            "max_tokens": options.max_tokens + 1,
            "logprobs": True,
            "logprob_token_ids": list(range(rows.first, rows.zero + 1)),
            "return_tokens_as_token_ids": True,
            "return_token_ids": True,
        }

    def candidate(self, choice: Choice, options: SamplingOptions) -> Candidate | None:
        """The completion with its basis rewards, averaged over the tokens that the kept text needs.

        Returns:
            The candidate; None where the rewards of its last token were not asked for, since a stop string ended it.

        Raises:
            EngineUnreachable: If the answer lacks the tokens or their log-probabilities.
            NonFiniteReward: If a reward is not finite.
        """
        ids, steps = choice.token_ids, None if choice.logprobs is None else choice.logprobs.content
        if ids is None or steps is None or len(ids) != len(steps):
            raise EngineUnreachable(
                "The upstream server returns no token_ids, or not a row of logprobs for each; only vLLM is known to do "
                "this: leave the export out, so that the engine's own trunk reads the rewards."
            )
        response = ids[:-1] if ids and ids[-1] in self.tokenizer.end_ids else ids
        response = response[: options.max_tokens]
        text, count = self.tokenizer.text(response), len(response)
        place = stop_place(self.tokenizer, response, options.stop)
        if place is not None:
            text, count = text[:place], tokens_within(self.tokenizer, response, place)
        if len(steps) <= count:
            return None
        full = len(response) == options.max_tokens
        finish: FinishReason = "stop" if place is not None else "length" if full else finish_of(choice.finish_reason)
        return Candidate(clean(text), len(response), finish, self._mean(steps, count))

    def _mean(self, steps: Sequence[StepLogprobs], count: int) -> Float64[np.ndarray, " basis"]:
        """Mean rewards of the first ``count`` tokens: those before the tokens after them. Without any, the prompt's."""
        chosen = steps[1 : count + 1] if count else steps[:1]
        rewards: np.ndarray = np.mean([self._row(step) for step in chosen], axis=0) + np.array(self.export.offset)
        if not np.isfinite(rewards).all():
            raise NonFiniteReward("A candidate's basis reward is not finite; check the upstream model's weights.")
        return rewards

    def _row(self, step: StepLogprobs) -> Float64[np.ndarray, " basis"]:
        """Rewards at one step: log-probabilities of the reward rows minus that of the zero row."""
        rows = self.export.rows
        told = {one.token: one.logprob for one in step.top_logprobs}
        try:
            found = np.array([told[f"{_ID}{token}"] for token in range(rows.first, rows.zero + 1)])
        except KeyError as error:
            raise EngineUnreachable(
                f"The upstream server returns no log-probability of {error.args[0]}; see that it serves the checkpoint "
                f"that 'attune engine export' wrote."
            ) from None
        rewards: np.ndarray = found[:-1] - found[-1]
        return rewards
