"""Turns a conversation and a response into the token ids that a transformers trunk reads, and tells what to pool.

The one way for all texts of such a trunk. A chat template is used where there is one; an encoder reads the
conversation and the response as a pair of segments; any other model reads turns under their roles' names.
"""

from dataclasses import dataclass
from typing import Any

from app.entities import Conversation
from app.rewards.language import defused, special_tokens
from app.rewards.trunk import Row

_SPEAKERS = {"system": "System", "user": "User", "assistant": "Assistant"}
_ANY_RESPONSE = "a"
"""Tokenizers leave the marks of a second segment out where that is empty."""


@dataclass(frozen=True)
class EncodedRow:
    """Token ids of a row, from ``start`` to ``end`` those of the response; ``segments`` tell an encoder the same."""

    ids: list[int]
    start: int
    end: int
    segments: list[int] | None = None

    def span(self, pooling: str) -> tuple[int, int]:
        """The tokens over which features are the mean; without a response, the token before it stands for it."""
        start = self.start if self.end > self.start else self.start - 1
        end = max(self.end, start + 1)
        return {
            "response_mean": (start, end),
            "last_token": (end - 1, end),
            "mean": (0, len(self.ids)),
            "first_token": (0, 1),
        }[pooling]

    def within(self, context: int) -> "EncodedRow":
        """The row without the last tokens of its response, as many as exceed ``context`` and as it has."""
        end = max(self.start, self.end - max(0, len(self.ids) - context))
        segments = self.segments and self.segments[:end] + self.segments[self.end :]
        return EncodedRow(self.ids[:end] + self.ids[self.end :], self.start, end, segments)


class RowTokenizer:
    """Encodes rows with a transformers tokenizer; special tokens written by a person stay plain text."""

    def __init__(self, tokenizer: Any, *, encoder: bool) -> None:
        """Use ``tokenizer``; ``encoder`` tells that the network reads in both directions."""
        self._tokenizer, self._encoder = tokenizer, encoder
        self._marks = sorted(special_tokens(tokenizer), key=len, reverse=True)

    def __call__(self, row: Row) -> EncodedRow:
        """Encode one row; blanks around the response do not count."""
        conversation, response = row[0], defused(row[1].strip(), self._marks)
        if self._encoder:
            return self._as_segments(self._transcript(conversation), response)
        prompt = self._ids(self._rendered(conversation))
        ids = prompt + self._ids(response)
        return EncodedRow(ids, len(prompt), len(ids))

    def prompt_count(self, conversation: Conversation) -> int:
        """Tokens of every row of this conversation besides those of its response, which may not be empty."""
        row = self((conversation, _ANY_RESPONSE))
        return len(row.ids) - (row.end - row.start)

    def _as_segments(self, prompt: str, response: str) -> EncodedRow:
        encoding = self._tokenizer(prompt, response, return_token_type_ids=True, verbose=False)
        ids, owners = encoding["input_ids"], encoding.sequence_ids(0)
        of_response = [place for place, owner in enumerate(owners) if owner == 1]
        start, end = (of_response[0], of_response[-1] + 1) if of_response else (len(ids), len(ids))
        return EncodedRow(ids, start, end, encoding["token_type_ids"])

    def _rendered(self, conversation: Conversation) -> str:
        """The text up to and including what opens the assistant's turn."""
        if self._tokenizer.chat_template is None:
            return f"{self._tokenizer.bos_token or ''}{self._transcript(conversation)}\n\n{_SPEAKERS['assistant']}:\n"
        messages = [{"role": one.role, "content": defused(one.content, self._marks)} for one in conversation]
        text: str = self._tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
        return text

    def _transcript(self, conversation: Conversation) -> str:
        """The turns under their roles' names; a single question of a user as it is."""
        turns = [(_SPEAKERS[one.role], defused(one.content.strip(), self._marks)) for one in conversation]
        if self._encoder and len(turns) == 1:
            return turns[0][1]
        return "\n\n".join(f"{speaker}:\n{text}" for speaker, text in turns)

    def _ids(self, text: str) -> list[int]:
        ids: list[int] = self._tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
        return ids
