"""Pooled features and basis rewards of texts: the same code for both sides of a pair, in training and in serving.

Rows are batched by length, and every distinct prompt is read once however many responses it has. Does not generate.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Float32, Float64, Int64
from torch import Tensor

from app.entities import Conversation
from app.errors import NonFiniteReward, PromptTooLong
from app.rewards.artifact import BasisArtifact
from app.rewards.attention import KeyValues
from app.rewards.checkpoint import checkpoint_sha256
from app.rewards.language import LanguageModel
from app.rewards.trunk import RESPONSE_MEAN, Row, Trunk, proceed

_Ids = tuple[int, ...]


class LanguageModelTrunk:
    """The language model that generates as a ``Trunk``: the mean state over the response's tokens."""

    pooling = RESPONSE_MEAN

    def __init__(self, model: LanguageModel) -> None:
        self.model = model

    @cached_property
    def fingerprint(self) -> str:
        """Hash over the checkpoint, computed at the first look."""
        return checkpoint_sha256(self.model.directory)

    @property
    def context(self) -> int:
        """Tokens that conversation and response share."""
        return self.model.context

    @property
    def hidden(self) -> int:
        """Number of features of a text."""
        return self.model.network.shape.hidden

    def token_counts(self, rows: Sequence[Row]) -> Int64[np.ndarray, " rows"]:
        """Tokens of each row, prompt and response together."""
        tokenizer = self.model.tokenizer
        prompts = {prompt: len(tokenizer.prompt_ids(prompt)) for prompt in {prompt for prompt, _ in rows}}
        return np.array([prompts[prompt] + len(tokenizer.response_ids(text)) for prompt, text in rows], dtype=np.int64)

    def prompt_count(self, conversation: Conversation) -> int:
        """Tokens of the prompt."""
        return len(self.model.tokenizer.prompt_ids(conversation))

    def features(
        self, rows: Sequence[Row], *, check: Callable[[], None] = proceed, truncate: bool = False
    ) -> Float32[np.ndarray, "rows hidden"]:
        """As ``pooled_features``."""
        return pooled_features(self.model, rows, check=check, truncate=truncate)


def basis_rewards(
    trunk: Trunk,
    artifact: BasisArtifact,
    rows: Sequence[Row],
    *,
    check: Callable[[], None] = proceed,
    truncate: bool = False,
) -> Float64[np.ndarray, "rows basis"]:
    """Basis rewards of each (conversation, response): ``heads @ features + offset``.

    Args:
        trunk: What computes the features that the basis reads.
        artifact: The basis.
        rows: Conversations that end before the response, and the response's text.
        check: Called before every forward pass; whatever it raises ends the scoring.
        truncate: Read of a response that exceeds the trunk's context the beginning only, instead of refusing it.

    Raises:
        PromptTooLong: If a conversation and its response exceed the trunk's context, or a conversation alone.
        NonFiniteReward: If the network yields values that are not finite.
    """
    features = trunk.features(rows, check=check, truncate=truncate).astype(np.float64)
    rewards: np.ndarray = features @ artifact.heads.astype(np.float64).T + artifact.offset
    if not np.isfinite(rewards).all():
        raise NonFiniteReward("A basis reward is not finite; check the model's weights.")
    return rewards


def pooled_features(
    model: LanguageModel,
    rows: Sequence[Row],
    *,
    batch_tokens: int = 8192,
    check: Callable[[], None] = proceed,
    truncate: bool = False,
) -> Float32[np.ndarray, "rows hidden"]:
    """Mean over each response's tokens of the last hidden state after the final norm.

    A response without tokens has the state at the last token of its prompt.

    Args:
        model: The language model.
        rows: Conversations that end before the response, and the response's text.
        batch_tokens: Largest number of padded tokens in one forward pass; does not change the result.
        check: Called before every forward pass; whatever it raises ends the scoring.
        truncate: Leave out the end of a response that exceeds the context, instead of refusing it.

    Raises:
        PromptTooLong: If a conversation and its response exceed the context, or a conversation alone; nothing is
            computed then.
    """
    encoded = [_encode(model, row, truncate) for row in rows]
    features = np.zeros((len(rows), model.network.shape.hidden), np.float32)
    prompts = sorted({prompt for prompt, _ in encoded}, key=lambda ids: (len(ids), ids))
    for batch in _batches(prompts, batch_tokens):
        check()
        of_prompt = {prompt: number for number, prompt in enumerate(batch)}
        lengths = torch.tensor([len(prompt) for prompt in batch], device=model.device)
        prefix, last_states = model.network.prefill(model.tensor(batch), lengths if len(batch) > 1 else None)
        members = [number for number, (prompt, _) in enumerate(encoded) if prompt in of_prompt]
        members.sort(key=lambda number: (len(encoded[number][1]), encoded[number]))
        for group in _batches([encoded[number][1] for number in members], batch_tokens):
            check()
            chosen, members = members[: len(group)], members[len(group) :]
            owners = torch.tensor([of_prompt[encoded[number][0]] for number in chosen], device=model.device)
            pooled = _pool(model, group, owners, prefix, last_states)
            features[chosen] = pooled.float().cpu().numpy()
    return features


def _encode(model: LanguageModel, row: Row, truncate: bool) -> tuple[_Ids, _Ids]:
    prompt = tuple(model.tokenizer.prompt_ids(row[0]))
    response = tuple(model.tokenizer.response_ids(row[1]))
    if truncate:
        response = response[: max(0, model.context - len(prompt))]
    if len(prompt) + len(response) > model.context:
        raise PromptTooLong(len(prompt), len(response), model.context)
    return prompt, response


def _batches(sequences: Sequence[_Ids], batch_tokens: int) -> Iterator[Sequence[_Ids]]:
    """Consecutive groups of sequences sorted by length, each at most ``batch_tokens`` when padded."""
    start = 0
    for end in range(1, len(sequences) + 1):
        if end == len(sequences) or (end + 1 - start) * len(sequences[end]) > batch_tokens:
            yield sequences[start:end]
            start = end


@torch.inference_mode()
def _pool(
    model: LanguageModel, responses: Sequence[_Ids], owners: Tensor, prefix: KeyValues, last_states: Tensor
) -> Tensor:
    """Pooled features (rows, hidden) of responses whose prompts are the rows ``owners`` of ``prefix``."""
    counts = torch.tensor([len(ids) for ids in responses], device=model.device)
    if not counts.any():
        return last_states[owners]
    tokens = model.tensor(responses)
    cache = model.network.new_cache(*tokens.shape)
    states = model.network.forward(tokens, cache, prefix if prefix.rows == 1 else prefix.select(owners))
    kept = torch.arange(tokens.shape[1], device=model.device) < counts[:, None]
    sums = states.float().mul_(kept[:, :, None]).sum(dim=1)
    return torch.where(counts[:, None] > 0, sums / counts.clamp(min=1)[:, None], last_states[owners].float())
