"""What the base model writes of its own accord, with the states that value heads read.

Every state has two next tokens: the one that the response went on with, and another, drawn from a flatter
distribution and fed to the network as well, so that the heads also see what the model seldom writes. Several prompts
are decoded together. Knows no rewards.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float16, Int32
from torch import Tensor

from app.entities import Conversation
from app.generation.batch.sampling import choose_tokens
from app.rewards.language import LanguageModel

MAX_TOKENS = 128
"""As served unless a request says otherwise; responses that are cut there count as finished."""
SAMPLING = ((0.8, 0.95), (1.0, 1.0))
"""Temperature and nucleus that groups of prompts take in turn: as served, and the model's own distribution."""
OTHERS_TEMPERATURE, OTHERS_TOP_P = 1.5, 0.95
ROWS = 64


@dataclass(frozen=True)
class Rollout:
    """One response of T tokens to prompt number ``prompt``.

    ``states`` (T + 1, hidden) begin with that of the prompt's last token; row t follows t tokens. ``others`` are
    tokens that might have come instead of each, with the states (…, hidden) after them; an ``ended`` response has one
    more, instead of its end mark.
    """

    prompt: int
    tokens: Int32[np.ndarray, " tokens"]
    states: Float16[np.ndarray, "tokens_and_one hidden"]
    others: Int32[np.ndarray, " choices"]
    other_states: Float16[np.ndarray, "choices hidden"]
    ended: bool


def roll_out(
    model: LanguageModel,
    prompts: Sequence[Conversation],
    responses: int,
    *,
    max_tokens: int = MAX_TOKENS,
    seed: int = 0,
    progress: Callable[[int], None] = lambda _: None,
) -> Iterator[Rollout]:
    """Draw ``responses`` continuations of each prompt; those that do not fit into the context are left out.

    Args:
        model: The language model.
        prompts: Conversations to answer.
        responses: How many of each.
        max_tokens: Where a response is cut.
        seed: Seeds each group of prompts together with its number.
        progress: Told how many prompts are done.
    """
    at_once = max(1, ROWS // responses)
    for group, start in enumerate(range(0, len(prompts), at_once)):
        numbers = list(range(start, min(start + at_once, len(prompts))))
        encoded = {number: model.tokenizer.prompt_ids(prompts[number]) for number in numbers}
        fitting = [number for number in numbers if len(encoded[number]) + max_tokens <= model.context]
        if fitting:
            yield from Group(
                model,
                [encoded[number] for number in fitting],
                responses,
                max_tokens,
                SAMPLING[group % len(SAMPLING)],
                np.random.default_rng([seed, group]),
            ).rollouts(fitting)
        progress(numbers[-1] + 1)


class Group:
    """Prompts decoded together. Row r of what is under way belongs to response ``live[r]``.

    Without ``explores``, other tokens are not fed, and what is told of them means nothing.
    """

    explores = True

    def __init__(
        self,
        model: LanguageModel,
        prompts: Sequence[list[int]],
        responses: int,
        max_tokens: int,
        sampling: tuple[float, float],
        rng: np.random.Generator,
    ) -> None:
        self.model, self.responses, self.max_tokens = model, responses, max_tokens
        self.temperature, self.top_p = sampling
        device, count = model.device, len(prompts) * responses
        lengths = torch.tensor([len(one) for one in prompts], device=device)
        prefix, last = model.network.prefill(model.tensor(prompts), lengths)
        owners = torch.arange(len(prompts), device=device).repeat_interleave(responses)
        self.prefix, self.now = prefix.select(owners), last[owners].clone()
        self.cache = model.network.new_cache(count, max_tokens + 1)
        self.uniforms = rng.random((2, max_tokens, count, 2))
        self.live = np.arange(count)
        self.lengths = np.full(count, max_tokens)
        hidden = model.network.shape.hidden
        self.tokens, self.others = (np.zeros((count, max_tokens), np.int32) for _ in range(2))
        self.states = np.zeros((count, max_tokens + 1, hidden), np.float16)
        self.other_states = np.zeros((count, max_tokens, hidden), np.float16)
        self.states[:, 0] = self.now.half().cpu().numpy()
        banned, ends = model.tokenizer.banned_ids, model.tokenizer.end_ids
        self.ends = torch.tensor(ends, dtype=torch.long, device=device)
        self.banned = torch.tensor(banned, dtype=torch.long, device=device)

    @torch.inference_mode()
    def rollouts(self, numbers: Sequence[int]) -> Iterator[Rollout]:
        """Decode until every response has ended or was cut; ``numbers`` are those of the prompts."""
        for step in range(self.max_tokens):
            tokens, others = self._choose(step)
            if self.explores:
                self._record_others(step, others)
            ending = torch.isin(tokens, self.ends).cpu().numpy() & (self.lengths[self.live] == self.max_tokens)
            self.lengths[self.live[ending]] = step
            tokens = self._leave(tokens)
            if not len(self.live):
                break
            self._feed(step, tokens)
        for row in range(len(self.lengths)):
            yield self._rollout(numbers[row // self.responses], row)

    def _rollout(self, prompt: int, row: int) -> Rollout:
        length = int(self.lengths[row])
        ended = length < self.max_tokens
        return Rollout(
            prompt,
            self.tokens[row, :length].copy(),
            self.states[row, : length + 1].copy(),
            self.others[row, : length + ended].copy(),
            self.other_states[row, : length + ended].copy(),
            ended,
        )

    def _choose(self, step: int) -> tuple[Tensor, Tensor]:
        """The next token (rows,) of every response, and another."""
        logits = self.model.network.logits(self.now).float()
        logits.index_fill_(1, self.banned, -torch.inf)
        without_end = logits.index_fill(1, self.ends, -torch.inf)
        ours, theirs = torch.from_numpy(self.uniforms[:, step, self.live]).to(logits.device)
        weighed = self._weighed((without_end if step == 0 else logits) / self.temperature)
        tokens = choose_tokens(weighed, ours, temperature=1.0, top_p=self.top_p)
        others = choose_tokens(without_end, theirs, temperature=OTHERS_TEMPERATURE, top_p=OTHERS_TOP_P)
        return tokens, others

    def _weighed(self, logits: Tensor) -> Tensor:
        """Tempered logits (rows, vocabulary), as they are drawn from."""
        return logits

    def _record_others(self, step: int, others: Tensor) -> None:
        """Feed the other tokens, keep their states, and forget that they were fed."""
        states = self._forward(others)
        self.cache.length -= 1
        self.others[self.live, step] = others.cpu().numpy()
        self.other_states[self.live, step] = states.half().cpu().numpy()

    def _leave(self, tokens: Tensor) -> Tensor:
        """Once a quarter of the rows have ended, take them out; until then they go on, and nobody reads what they do.

        Returns:
            The tokens of the rows that are left.
        """
        alive = self.lengths[self.live] == self.max_tokens
        if 4 * alive.sum() > 3 * len(alive):
            return tokens
        rows = torch.from_numpy(np.flatnonzero(alive)).to(tokens.device)
        self.cache = self.cache.select(rows).beginning(self.cache.length, self.max_tokens + 1)
        self.prefix = self.prefix.select(rows)
        self.live = self.live[alive]
        return tokens[rows]

    def _feed(self, step: int, tokens: Tensor) -> None:
        self.now = self._forward(tokens)
        self.tokens[self.live, step] = tokens.cpu().numpy()
        self.states[self.live, step + 1] = self.now.half().cpu().numpy()

    def _forward(self, tokens: Tensor) -> Tensor:
        return self.model.network.forward(tokens[:, None], self.cache, self.prefix)[:, 0]
