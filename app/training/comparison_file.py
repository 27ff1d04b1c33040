"""Reads a file of comparisons (one JSON object a line) and says which line is wrong and why.

The file is streamed: no line is kept once its texts are indexed. Knows the form of a line, not what is learned from it.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, get_args

from app.entities import Conversation, Message, Role
from app.errors import InvalidInput
from app.training.dataset import LABELS, ComparisonData, RawComparison

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_RFC3339 = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)")


@dataclass
class SkippedLines:
    """Lines that were left out: how many, and the faults of the first ``most``."""

    most: int = 10
    count: int = 0
    faults: list[str] = field(default_factory=list)

    def add(self, fault: str) -> None:
        """Count one more."""
        self.count += 1
        if len(self.faults) < self.most:
            self.faults.append(fault)


def read_comparisons(path: Path, *, skip_invalid: bool = False, skipped: SkippedLines | None = None) -> ComparisonData:
    """Stream a JSONL file into arrays.

    Args:
        path: UTF-8 text, with or without a byte order mark; empty lines do not count.
        skip_invalid: Leave malformed lines out instead of stopping.
        skipped: Where to keep count of them.

    Raises:
        InvalidInput: Names the first malformed line and its fault, unless ``skip_invalid``; or the file, if it cannot
            be read.
    """
    skipped = skipped if skipped is not None else SkippedLines()
    try:
        return ComparisonData.of(_comparisons(path, skip_invalid, skipped))
    except OSError as error:
        raise InvalidInput(f"{path} cannot be read ({error.strerror}); name a file of comparisons.") from error


def _comparisons(path: Path, skip_invalid: bool, skipped: SkippedLines) -> Iterator[RawComparison]:
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            content = line.removeprefix(_BYTE_ORDER_MARK) if number == 1 else line
            if not content.strip():
                continue
            try:
                yield parse_comparison(content)
            except ValueError as error:
                fault = f"{path}, line {number}: {error}"
                if not skip_invalid:
                    raise InvalidInput(f"{fault}; mend it, or pass --skip-invalid.") from error
                skipped.add(fault)


def parse_comparison(line: bytes) -> RawComparison:
    """One line as a comparison; raises ``ValueError`` with the fault in words."""
    row = _json_object(line)
    for name in ("user_id", "first", "second"):
        if not isinstance(row.get(name), str) or not row[name].strip():
            raise ValueError(f"'{name}' must be a non-empty string")
    if not isinstance(row.get("preferred"), str) or row["preferred"] not in LABELS:
        raise ValueError(f"'preferred' must be one of {', '.join(LABELS)}, not {row.get('preferred')!r}")
    prompt = _conversation(row.get("prompt"))
    return RawComparison(
        row["user_id"], prompt, row["first"], row["second"], row["preferred"], _about(row), _seconds(row.get("at"))
    )


def _json_object(line: bytes) -> dict[str, Any]:
    try:
        text = line.decode()
    except UnicodeDecodeError as error:
        raise ValueError(f"not UTF-8 (byte 0x{line[error.start]:02x} at position {error.start})") from error
    try:
        row = json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"not JSON ({error.msg} at character {error.pos + 1})") from error
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    if not isinstance(row, dict):
        raise ValueError("not a JSON object")
    if "\\u" in text:
        _check_surrogates(row)
    return row


def _check_surrogates(row: dict[str, Any]) -> None:
    """Refuse half a character: JSON can spell it as an escape, but no tokenizer reads it."""
    try:
        json.dumps(row, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        raise ValueError("holds an unpaired surrogate, which is no character") from error


def _about(row: dict[str, Any]) -> str | None:
    about = row.get("about")
    if about is not None and not isinstance(about, str):
        raise ValueError("'about' must be a string")
    return about if about and about.strip() else None


def _seconds(at: object) -> float | None:
    """Seconds since 1970 of an RFC 3339 time."""
    if at is None:
        return None
    if not isinstance(at, str) or not _RFC3339.fullmatch(at):
        raise ValueError(f"'at' must be a time as RFC 3339 writes it (2026-01-31T12:00:00Z), not {at!r}")
    try:
        return datetime.fromisoformat(at.upper()).timestamp()
    except ValueError as error:
        raise ValueError(f"'at' is {at!r}, which is no time ({error})") from error


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
