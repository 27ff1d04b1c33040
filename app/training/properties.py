"""Measurable properties of a text: the ten directions in which simulated people differ.

Each property is computed from the text alone, by counting; none looks at a model. ``measure`` gives
raw values; ``PropertyScale`` standardises them on a reference collection of texts. The words that
count for a property are listed here and nowhere else.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64


@dataclass(frozen=True)
class Property:
    """A direction in words: what more of it, and less of it, reads like."""

    name: str
    high: str
    low: str


PROPERTIES = (
    Property("length", "longer answers", "shorter answers"),
    Property("structure", "lists and line breaks", "flowing prose"),
    Property("formality", "a formal tone", "a casual tone"),
    Property("warmth", "warm and personal words", "matter-of-fact words"),
    Property("questions", "questions back to you", "no questions back"),
    Property("simplicity", "short words and sentences", "expert words and long sentences"),
    Property("concreteness", "numbers and examples", "general statements"),
    Property("hedging", "cautious wording", "definite wording"),
    Property("enthusiasm", "enthusiasm", "a sober voice"),
    Property("voice", "a first-person voice", "an impersonal voice"),
)

_FORMAL = frozenset(
    "therefore however moreover furthermore thus consequently additionally regarding hence nevertheless accordingly "
    "ensure provide obtain require requires consider recommended advisable appropriate individuals numerous whether "
    "one's shall upon approximately essential significant particular respective particularly generally typically "
    "various certain within prior ensure ensures maintain sufficient regard".split()
)
_CASUAL = frozenset(
    "hey yeah yep nope kinda gonna wanna gotta stuff lots okay ok cool pretty bit guy guys folks kids super totally "
    "honestly basically grab toss toss pop tons bunch awesome nah sure thing things got get just really".split()
)
_WARM = frozenset(
    "you your you're you've you'll yourself hope sorry glad thank thanks please welcome feel feeling feelings "
    "understand proud care kind gentle friend friends together happy enjoy comfort comfortable help dear lovely "
    "support encourage worry alone okay well-done deserve hug smile heart".split()
)
_HEDGES = frozenset(
    "may might could perhaps possibly depends depending usually often sometimes generally likely seems seem probably "
    "maybe typically tend tends appear appears suggest suggests somewhat relatively roughly about around if can".split()
)
_KEEN = frozenset(
    "great amazing fantastic wonderful love loved excellent perfect exciting excited delicious fun best brilliant "
    "beautiful incredible awesome absolutely delightful favorite favourite joy thrilled marvelous superb magic".split()
)
_FIRST_PERSON = frozenset("i i'm i'd i've i'll me my mine myself we our us we're".split())
_EXAMPLES = re.compile(r"\b(for example|for instance|such as|e\.g\.|like a|including)\b", re.IGNORECASE)
_LIST_ITEM = re.compile(r"^\s*(?:[-*•]|\d+[.)])\s+", re.MULTILINE)
_WORD = re.compile(r"[A-Za-z]+(?:['-][A-Za-z]+)*|\d+(?:[.,:]\d+)*")
_SENTENCE_END = re.compile(r"[.!?]+(?=\s|$)|\n")
_LONGEST_WORD = 15
"""Letters beyond this do not count: one runaway word (``hahahaha...``) must not set the spread of a whole property."""


def measure(text: str) -> Float64[np.ndarray, " properties"]:
    """Raw values (10,) of one text, in the order of ``PROPERTIES``; an empty text measures as one word."""
    words = _WORD.findall(text)
    lower = [word.lower() for word in words]
    count = max(1, len(words))
    sentences = max(1, len([part for part in _SENTENCE_END.split(text) if part.strip()]))
    items, breaks = len(_LIST_ITEM.findall(text)), text.count("\n")
    numbers = sum(word[0].isdigit() for word in words) - len(re.findall(r"^\s*\d+[.)]", text, re.MULTILINE))
    names = len(re.findall(r"(?<=[a-z,] )[A-Z][a-z]+", text))
    casual = sum(word in _CASUAL or "'" in word for word in lower)
    letters = sum(min(len(word), _LONGEST_WORD) for word in words) / count
    return np.array(
        [
            np.log(count),
            _root((2 * items + breaks) / count),
            _root((sum(word in _FORMAL for word in lower) - casual) / count),
            _root(sum(word in _WARM for word in lower) / count),
            _root(text.count("?") / sentences),
            -letters - 0.04 * min(count / sentences, 40.0),
            _root((numbers + names + 2 * len(_EXAMPLES.findall(text))) / count),
            _root(sum(word in _HEDGES for word in lower) / count),
            _root((text.count("!") * 3 + sum(word in _KEEN for word in lower)) / count),
            _root(sum(word in _FIRST_PERSON for word in lower) / count),
        ]
    )


def _root(value: float) -> float:
    """Signed square root: tames the long tail of a rate."""
    return float(np.sign(value) * abs(value) ** 0.5)


@dataclass(frozen=True)
class PropertyScale:
    """Centre and spread (10,) of each property on a reference collection."""

    centre: Float64[np.ndarray, " properties"]
    spread: Float64[np.ndarray, " properties"]

    @classmethod
    def of(cls, texts: Sequence[str]) -> "PropertyScale":
        """The mean and standard deviation of each property over ``texts``."""
        values = np.array([measure(text) for text in texts])
        return cls(values.mean(axis=0), np.maximum(values.std(axis=0), 1e-6))

    @classmethod
    def load(cls, values: Mapping[str, Sequence[float]]) -> "PropertyScale":
        """The scale that ``dump`` wrote."""
        return cls(np.array(values["centre"]), np.array(values["spread"]))

    def dump(self) -> dict[str, list[float]]:
        """As plain numbers, for a manifest."""
        return {"centre": self.centre.tolist(), "spread": self.spread.tolist()}

    def standardise(self, texts: Sequence[str]) -> Float64[np.ndarray, "texts properties"]:
        """Standard scores (texts, 10), cut to [-3, 3]."""
        values = np.array([measure(text) for text in texts]).reshape(len(texts), len(PROPERTIES))
        scores: Float64[np.ndarray, "texts properties"] = np.clip((values - self.centre) / self.spread, -3.0, 3.0)
        return scores
