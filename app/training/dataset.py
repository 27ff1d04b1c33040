"""Comparison data as arrays over distinct texts and distinct people.

Both sides of a pair go through ``_Index.row``, the one place where a (prompt, response) text becomes a row of the
feature matrix: nothing can tell a preferred text from a rejected one but its words. Reads no files.
"""

from array import array
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Bool, Float64, Int64

from app.entities import Conversation
from app.rewards.trunk import Row

LABELS = {"first": 1.0, "second": 0.0, "tie": 0.5}


@dataclass(frozen=True)
class RawComparison:
    """Who compared which responses to which prompt, and what they preferred.

    ``about`` is what the person wrote of themselves, if anything; ``at`` is when, in seconds since 1970.
    """

    user_id: str
    prompt: Conversation
    first: str
    second: str
    preferred: str
    about: str | None = None
    at: float | None = None


def _no_numbers() -> Int64[np.ndarray, " comparisons"]:
    return np.zeros(0, np.int64)


def _no_values() -> Float64[np.ndarray, " comparisons"]:
    return np.zeros(0)


@dataclass
class ComparisonData:
    """N comparisons as arrays over distinct texts and distinct people.

    ``rows`` are the distinct (prompt, response) texts. ``first``, ``second`` and ``people`` (N,) index
    rows and ``names``; ``labels`` (N,) is 1.0 where first was preferred, 0.5 for a tie, else 0.0.
    ``at`` (N,) is when, in seconds since 1970, NaN where that is not known. ``about`` has one entry a name: what the
    person wrote of themselves last.
    """

    rows: list[Row] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    first: Int64[np.ndarray, " comparisons"] = field(default_factory=_no_numbers)
    second: Int64[np.ndarray, " comparisons"] = field(default_factory=_no_numbers)
    people: Int64[np.ndarray, " comparisons"] = field(default_factory=_no_numbers)
    labels: Float64[np.ndarray, " comparisons"] = field(default_factory=_no_values)
    at: Float64[np.ndarray, " comparisons"] = field(default_factory=_no_values)
    about: list[str | None] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def identical(self) -> int:
        """Comparisons of a text with itself: they are kept, and say nothing."""
        return int((self.first == self.second).sum())

    def only(self, rows: Bool[np.ndarray, " rows"]) -> "ComparisonData":
        """The comparisons whose two texts are among ``rows``; people and rows keep those that are left."""
        return self.take(rows[self.first] & rows[self.second])

    def take(self, kept: Bool[np.ndarray, " comparisons"]) -> "ComparisonData":
        """The comparisons that are ``kept``, in their order, with the people and rows that they need."""
        rows, sides = np.unique(np.stack([self.first[kept], self.second[kept]]), return_inverse=True)
        names, people = np.unique(self.people[kept], return_inverse=True)
        first, second = sides.reshape(2, -1)
        return ComparisonData(
            rows=[self.rows[row] for row in rows],
            names=[self.names[name] for name in names],
            first=first,
            second=second,
            people=people,
            labels=self.labels[kept],
            at=self.at[kept],
            about=[self.about[name] for name in names],
        )

    @classmethod
    def of(cls, comparisons: Iterable[RawComparison]) -> "ComparisonData":
        """Index the texts and people of ``comparisons``, which are looked at once, one at a time."""
        index = _Index()
        for one in comparisons:
            index.add(one)
        return index.data()


class _Index:
    """Grows columns of machine numbers; a text, a prompt or a person is kept once."""

    def __init__(self) -> None:
        self._prompts: dict[Conversation, int] = {}
        self._places: dict[tuple[int, str], int] = {}
        self._rows: list[Row] = []
        self._people: dict[str, int] = {}
        self._about: list[str | None] = []
        self._columns = {name: array("q") for name in ("first", "second", "people")}
        self._values = {name: array("d") for name in ("labels", "at")}

    def add(self, one: RawComparison) -> None:
        """Append one comparison."""
        person = self._people.setdefault(one.user_id, len(self._people))
        if person == len(self._about):
            self._about.append(None)
        if one.about is not None:
            self._about[person] = one.about
        self._columns["first"].append(self.row(one.prompt, one.first))
        self._columns["second"].append(self.row(one.prompt, one.second))
        self._columns["people"].append(person)
        self._values["labels"].append(LABELS[one.preferred])
        self._values["at"].append(np.nan if one.at is None else one.at)

    def row(self, prompt: Conversation, response: str) -> int:
        """The row of a text, whichever side it is on."""
        number = self._prompts.setdefault(prompt, len(self._prompts))
        place = self._places.setdefault((number, response), len(self._rows))
        if place == len(self._rows):
            self._rows.append((prompt, response))
        return place

    def data(self) -> ComparisonData:
        """All that was added."""
        numbers = {name: np.array(column, dtype=np.int64) for name, column in self._columns.items()}
        values = {name: np.array(column, dtype=np.float64) for name, column in self._values.items()}
        return ComparisonData(rows=self._rows, names=list(self._people), about=self._about, **numbers, **values)
