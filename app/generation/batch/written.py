"""The text that tokens write, up to where it ends, and the pieces of it that are certain while it is written."""

from collections.abc import Callable, Sequence

from app.rewards.language import ChatTokenizer

_REPLACEMENT = "\ufffd"
_BYTES_OF_CHARACTER = 4


def clean(text: str) -> str:
    """A response as it is returned: without half a character at its end, and without surrounding blanks."""
    return text.rstrip(_REPLACEMENT).strip()


def stop_place(tokenizer: ChatTokenizer, ids: Sequence[int], stop: Sequence[str]) -> int | None:
    """Where in the text of ``ids`` the first stop string begins; None if there is none.

    Looks at the whole text only if the newest tokens may complete one.
    """
    if not stop:
        return None
    newest = _BYTES_OF_CHARACTER * (max(map(len, stop)) + 1)
    if len(ids) > newest:
        ending = tokenizer.text(ids[-newest:])
        if not any(one in ending for one in stop):
            return None
    text = tokenizer.text(ids)
    return min((place for place in map(text.find, stop) if place >= 0), default=None)


def tokens_within(tokenizer: ChatTokenizer, ids: Sequence[int], characters: int) -> int:
    """How many tokens it takes to write the first ``characters`` of their text."""
    count, kept = len(ids), tokenizer.text(ids)[:characters]
    while count and tokenizer.text(ids[: count - 1]).startswith(kept):
        count -= 1
    return count


class TextStream:
    """Hands out pieces that together are the cleaned text, holding back what may yet be cut off it."""

    def __init__(self, stop: Sequence[str], on_text: Callable[[str], None]) -> None:
        self._beginnings = {one[:length] for one in stop for length in range(1, len(one))}
        self._longest = max(map(len, stop), default=0)
        self._on_text, self._told = on_text, ""

    def advance(self, text: str) -> None:
        """``text`` is what was written so far, without any stop string."""
        certain = min(self._certain(text), self._certain(text.rstrip(_REPLACEMENT)))
        self._tell(_without_end(text[:certain]).lstrip())

    def finish(self, text: str) -> None:
        """``text`` is the cleaned text as a whole."""
        self._tell(text)

    def _certain(self, text: str) -> int:
        """How many characters come before what may be the beginning of a stop string."""
        held = [size for size in range(1, min(self._longest, len(text) + 1)) if text[-size:] in self._beginnings]
        return len(text) - max(held, default=0)

    def _tell(self, text: str) -> None:
        if len(text) > len(self._told) and text.startswith(self._told):
            self._on_text(text[len(self._told) :])
            self._told = text


def _without_end(text: str) -> str:
    """Without all blanks and broken characters at the end, however they are mixed."""
    shorter = clean("x" + text)[1:]
    return text if shorter == text else _without_end(shorter)
