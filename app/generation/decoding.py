"""The decoding loop: N candidates of one prompt from one prefill, with basis rewards read from the same pass.

The prompt is read once; all candidates attend to that one copy. The state of a response token, which its basis
rewards are read from, appears when the token is fed back to predict the next one, so rewards cost one small product a
step. Candidates that finish leave the batch at once. Knows the network and the tokenizer, not queues or users.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float64
from torch import Tensor

from app.entities import Candidate, FinishReason, SamplingOptions
from app.errors import ArtifactIncompatible, NonFiniteReward
from app.generation.sampling import choose_tokens, draw_uniforms
from app.rewards.artifact import BasisArtifact
from app.rewards.language import LanguageModel

ROW_MULTIPLE = 4
"""Rows of a forward pass are padded to a multiple of this: matrix products then round every row alike, however many
rows there are, so that a candidate does not depend on how many others are drawn (measured on x86-64, fp32)."""

_REPLACEMENT = "\ufffd"


@dataclass(frozen=True)
class Heads:
    """Basis reward heads on the model's device: ``weight`` (K, hidden) and ``offset`` (K,)."""

    weight: Tensor
    offset: Float64[np.ndarray, " basis"]

    @classmethod
    def on(cls, model: LanguageModel, artifact: BasisArtifact) -> "Heads":
        """The heads of ``artifact``, moved to where ``model`` lives.

        Raises:
            ArtifactIncompatible: If they were made for another hidden size.
        """
        if artifact.heads.shape[1] != model.network.shape.hidden:
            raise ArtifactIncompatible(
                f"Basis {artifact.basis.version} reads {artifact.heads.shape[1]} hidden values, the model has "
                f"{model.network.shape.hidden}; use the model that the basis was made for."
            )
        return cls(torch.tensor(artifact.heads, device=model.device), artifact.offset.astype(np.float64))

    @classmethod
    def none(cls, model: LanguageModel) -> "Heads":
        """No heads at all, for texts whose rewards another network gives, or nobody asks for."""
        return cls(torch.zeros(0, model.network.shape.hidden, device=model.device), np.zeros(0))


@torch.inference_mode()
def decode(
    model: LanguageModel,
    heads: Heads,
    prompt_ids: list[int],
    n: int,
    options: SamplingOptions,
    *,
    check: Callable[[], None],
) -> list[Candidate]:
    """Draw ``n`` candidates that continue ``prompt_ids``.

    No candidate is empty unless a stop string begins it, and none contains a special token. A candidate that ends at
    a stop string is cut before it, and its rewards are averaged over the tokens that the kept text needs.

    Args:
        model: The language model; used by this thread alone.
        heads: Basis reward heads.
        prompt_ids: The rendered conversation; with ``options.max_tokens`` it must fit into the context.
        n: Number of candidates, at least 1.
        options: How to sample. At temperature 0 all candidates are the same one.
        check: Called before every step; whatever it raises ends the decoding.

    Raises:
        NonFiniteReward: If the network yields values that are not finite.
    """
    distinct = 1 if options.temperature == 0 else n
    batch = _Batch(model, heads, prompt_ids, distinct, options)
    batch.run(check)
    candidates = [batch.candidate(number) for number in range(distinct)]
    return candidates * (n // distinct)


class _Batch:
    """The candidates under way. Row r of every tensor belongs to candidate ``live[r]``; later rows are padding."""

    def __init__(
        self, model: LanguageModel, heads: Heads, prompt_ids: list[int], n: int, options: SamplingOptions
    ) -> None:
        self.model, self.heads, self.options = model, heads, options
        self.live = list(range(n))
        self.ids: list[list[int]] = [[] for _ in range(n)]
        self.kept: list[tuple[str, int] | None] = [None] * n
        self.finish: list[FinishReason] = ["length"] * n
        network = model.network
        self.prefix, state = network.prefill(model.tensor([prompt_ids]))
        self.cache = network.new_cache(_padded(n), options.max_tokens)
        self.states = state.expand(self.cache.rows, -1).clone()
        self.prompt_rewards = self._read(state)[0]
        self.rewards = state.new_zeros((n, options.max_tokens, len(heads.weight)), dtype=torch.float32)
        banned, ends = model.tokenizer.banned_ids, model.tokenizer.end_ids
        self.banned = torch.tensor(banned, dtype=torch.long, device=model.device)
        self.banned_first = torch.tensor(banned + ends, dtype=torch.long, device=model.device)
        self.uniforms = draw_uniforms(options.seed, n, options.max_tokens).to(model.device)

    def run(self, check: Callable[[], None]) -> None:
        """Generate until every candidate has finished or has ``max_tokens`` tokens."""
        for step in range(self.options.max_tokens):
            check()
            tokens = self._choose(step)
            self._leave_at_end(tokens)
            if not self.live:
                return
            self._feed(step, tokens)
            self._leave_at_stop()
            if not self.live:
                return

    def candidate(self, number: int) -> Candidate:
        """The finished candidate, with its rewards averaged over the tokens kept."""
        ids = self.ids[number]
        text, count = self.kept[number] or (self.model.tokenizer.text(ids), len(ids))
        per_token = self.rewards[number, :count].double().cpu().numpy()
        mean = per_token.mean(axis=0) if count else self.prompt_rewards.double().cpu().numpy()
        rewards = mean + self.heads.offset
        if not np.isfinite(rewards).all():
            raise NonFiniteReward("A candidate's basis reward is not finite; check the model's weights.")
        return Candidate(text.rstrip(_REPLACEMENT).strip(), len(ids), self.finish[number], rewards)

    def _choose(self, step: int) -> Tensor:
        """Next tokens (rows,) of the live candidates and the padding."""
        rows = _padded(len(self.live))
        logits = self.model.network.logits(self.states[:rows])
        logits.index_fill_(1, self.banned_first if step == 0 else self.banned, -torch.inf)
        owners = self.live + [self.live[0]] * (rows - len(self.live))
        options = self.options
        return choose_tokens(logits, self.uniforms[owners, step], temperature=options.temperature, top_p=options.top_p)

    def _leave_at_end(self, tokens: Tensor) -> None:
        """Append the tokens to their candidates; those that drew an end mark leave without it."""
        drawn = tokens.tolist()
        for row in reversed(range(len(self.live))):
            if drawn[row] in self.model.tokenizer.end_ids:
                self._leave(row, tokens)
            else:
                self.ids[self.live[row]].append(drawn[row])

    def _feed(self, step: int, tokens: Tensor) -> None:
        """Compute the states of the tokens just drawn, and read their basis rewards."""
        rows = _padded(len(self.live))
        self.states = self.model.network.forward(tokens[:rows, None], self.cache, self.prefix)[:, 0]
        self.rewards[self.live, step] = self._read(self.states)[: len(self.live)]

    def _read(self, states: Tensor) -> Tensor:
        return states.float() @ self.heads.weight.T

    def _leave_at_stop(self) -> None:
        """Candidates whose text now contains a stop string leave, cut before it."""
        if not self.options.stop:
            return
        for row in reversed(range(len(self.live))):
            number = self.live[row]
            text = self.model.tokenizer.text(self.ids[number])
            found = [place for place in map(text.find, self.options.stop) if place >= 0]
            if found:
                self.kept[number] = text[: min(found)], self._tokens_within(self.ids[number], min(found))
                self._leave(row, self.states)

    def _tokens_within(self, ids: list[int], characters: int) -> int:
        """How many tokens it takes to write the first ``characters`` of their text."""
        count = len(ids)
        while count and len(self.model.tokenizer.text(ids[: count - 1])) >= characters:
            count -= 1
        return count

    def _leave(self, row: int, aligned: Tensor) -> None:
        """Take a finished candidate out: the last live row moves into its place, in the cache and in ``aligned``."""
        self.finish[self.live[row]] = "stop"
        last = len(self.live) - 1
        if row != last:
            self.cache.move_row(last, row)
            aligned[row] = aligned[last]
            self.live[row] = self.live[last]
        self.live.pop()


def _padded(rows: int) -> int:
    return -(-rows // ROW_MULTIPLE) * ROW_MULTIPLE
