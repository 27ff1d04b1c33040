"""Reads comparison data (one JSON object a line) into arrays, and says which line is wrong and why.

Both sides of a pair go through ``_row``, the one place where a (prompt, response) text becomes a row
of the feature matrix: nothing can tell a preferred text from a rejected one but its words.
"""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import get_args

import numpy as np
from jaxtyping import Bool, Float64, Int64

from app.entities import Conversation, Message, Role
from app.errors import InvalidInput

_LABELS = {"first": 1.0, "second": 0.0, "tie": 0.5}


@dataclass(frozen=True)
class RawComparison:
    """One line: who compared which responses to which prompt, and what they preferred."""

    user_id: str
    prompt: Conversation
    first: str
    second: str
    preferred: str


@dataclass
class ComparisonData:
    """Comparisons as arrays over distinct texts and distinct people.

    ``rows`` are the distinct (prompt, response) texts. ``first``, ``second`` and ``people`` (N,) index
    rows and ``names``; ``labels`` (N,) is 1.0 where first was preferred, 0.5 for a tie, else 0.0.
    """

    rows: list[tuple[Conversation, str]] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    first: Int64[np.ndarray, " comparisons"] = field(default_factory=lambda: np.zeros(0, np.int64))
    second: Int64[np.ndarray, " comparisons"] = field(default_factory=lambda: np.zeros(0, np.int64))
    people: Int64[np.ndarray, " comparisons"] = field(default_factory=lambda: np.zeros(0, np.int64))
    labels: Float64[np.ndarray, " comparisons"] = field(default_factory=lambda: np.zeros(0))

    def __len__(self) -> int:
        return len(self.labels)

    def only(self, rows: Bool[np.ndarray, " rows"]) -> "ComparisonData":
        """The comparisons whose two texts are among ``rows``; people and rows keep those that are left."""
        kept = rows[self.first] & rows[self.second]
        names = np.array(self.names)[self.people[kept]]
        texts = [(self.rows[i], self.rows[j]) for i, j in zip(self.first[kept], self.second[kept], strict=True)]
        label_of = {value: name for name, value in _LABELS.items()}
        return ComparisonData.of(
            RawComparison(str(name), one[0], one[1], other[1], label_of[float(label)])
            for name, (one, other), label in zip(names, texts, self.labels[kept], strict=True)
        )

    @classmethod
    def of(cls, comparisons: Iterable[RawComparison]) -> "ComparisonData":
        """Index the texts and people of ``comparisons``."""
        rows: dict[tuple[Conversation, str], int] = {}
        names: dict[str, int] = {}
        columns: list[tuple[int, int, int, float]] = []
        for one in comparisons:
            first, second = (_row(rows, one.prompt, text) for text in (one.first, one.second))
            person = names.setdefault(one.user_id, len(names))
            columns.append((first, second, person, _LABELS[one.preferred]))
        table = np.array(columns, dtype=np.float64).reshape(-1, 4)
        first_, second_, people = (table[:, column].astype(np.int64) for column in range(3))
        return cls(list(rows), list(names), first_, second_, people, table[:, 3])


def _row(rows: dict[tuple[Conversation, str], int], prompt: Conversation, response: str) -> int:
    return rows.setdefault((prompt, response), len(rows))


def read_comparisons(path: Path, *, skip_invalid: bool = False, skipped: list[str] | None = None) -> ComparisonData:
    """Stream a JSONL file into arrays.

    Raises:
        InvalidInput: Names the first malformed line and its fault, unless ``skip_invalid``; then each
            fault is appended to ``skipped``.
    """

    def lines() -> Iterator[RawComparison]:
        with path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                if not line.strip():
                    continue
                try:
                    yield _parse(line)
                except ValueError as error:
                    fault = f"{path}, line {number}: {error}"
                    if not skip_invalid:
                        raise InvalidInput(f"{fault}; mend it, or pass --skip-invalid.") from error
                    if skipped is not None:
                        skipped.append(fault)

    return ComparisonData.of(lines())


def _parse(line: bytes) -> RawComparison:
    row = json.loads(line.decode())
    if not isinstance(row, dict):
        raise ValueError("not a JSON object")
    for name in ("user_id", "first", "second"):
        if not isinstance(row.get(name), str) or not row[name].strip():
            raise ValueError(f"'{name}' must be a non-empty string")
    if row.get("preferred") not in _LABELS:
        raise ValueError(f"'preferred' must be one of {', '.join(_LABELS)}, not {row.get('preferred')!r}")
    return RawComparison(
        row["user_id"], _conversation(row.get("prompt")), row["first"], row["second"], row["preferred"]
    )


def _conversation(prompt: object) -> Conversation:
    if isinstance(prompt, str) and prompt.strip():
        return (Message("user", prompt),)
    if isinstance(prompt, list) and prompt:
        try:
            turns = tuple(Message(turn["role"], turn["content"]) for turn in prompt)
        except (TypeError, KeyError) as error:
            raise ValueError("'prompt' messages need 'role' and 'content'") from error
        if all(turn.role in get_args(Role) and isinstance(turn.content, str) for turn in turns):
            return turns
        raise ValueError(f"'prompt' messages need a role of {', '.join(get_args(Role))} and text as content")
    raise ValueError("'prompt' must be a non-empty string or a list of messages")
