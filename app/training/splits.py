"""Who and what is held out when a basis is fitted. People and topics are both held out."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64, Int64

from app.entities import Conversation
from app.training.dataset import ComparisonData
from app.training.replay import RecordedPerson

FEWEST_ASKED, FEWEST_PREDICTED = 5, 3


@dataclass(frozen=True)
class Splits:
    """``part`` (people,) is 0 training, 1 calibration, 2 test; ``held_out`` (rows,) marks texts of held-out topics."""

    part: Int64[np.ndarray, " people"]
    held_out: Bool[np.ndarray, " rows"]

    @classmethod
    def draw(
        cls,
        data: ComparisonData,
        rng: np.random.Generator,
        *,
        training_only: Collection[Conversation] = (),
        decided: Mapping[str, int] | None = None,
    ) -> "Splits":
        """A tenth of the people each for calibration and test; a fifth of the topics held out, of all sizes.

        From two topics on at least one is held out. A topic is the first line of the last turn of a prompt. Prompts in
        ``training_only`` are never held out, and people in ``decided`` are in the part given there.
        """
        part = np.searchsorted([0.8, 0.9], rng.permutation(len(data.names)) / max(1, len(data.names)), side="right")
        parts = decided or {}
        part = np.array([parts.get(name, drawn) for name, drawn in zip(data.names, part, strict=True)], dtype=np.int64)
        free = np.array([prompt not in training_only for prompt, _ in data.rows], dtype=bool)
        names, topics = np.unique([prompt[-1].content.split("\n")[0] for prompt, _ in data.rows], return_inverse=True)
        held = _every_fifth(np.bincount(topics[free], minlength=len(names)), rng)
        return cls(part, held[topics] & free)

    def training(self, data: ComparisonData) -> Bool[np.ndarray, " comparisons"]:
        """Comparisons of training people between texts that are not held out."""
        return np.asarray((self.part[data.people] == 0) & ~(self.held_out[data.first] | self.held_out[data.second]))

    def recorded(
        self,
        data: ComparisonData,
        rewards: Float64[np.ndarray, "rows basis"],
        members: Bool[np.ndarray, " people"],
        *,
        most: int,
        kind: Bool[np.ndarray, " rows"] | None = None,
    ) -> list[RecordedPerson]:
        """Up to ``most`` members: what may be asked (training rows) and what is predicted (held-out rows).

        Only rows of ``kind``, if given, are predicted. People with too few of either are left out.
        """
        differences = rewards[data.first] - rewards[data.second]
        predictable = self.held_out if kind is None else self.held_out & kind
        outside = predictable[data.first] & predictable[data.second]
        inside = ~self.held_out[data.first] & ~self.held_out[data.second]
        order = np.argsort(data.people, kind="stable")
        bounds = np.searchsorted(data.people[order], np.arange(len(data.names) + 1))
        found: list[RecordedPerson] = []
        for person in np.flatnonzero(members):
            mine = order[bounds[person] : bounds[person + 1]]
            asked, predicted = mine[inside[mine]], mine[outside[mine]]
            if len(asked) >= FEWEST_ASKED and len(predicted) >= FEWEST_PREDICTED:
                found.append(
                    RecordedPerson(
                        differences[asked],
                        data.labels[asked],
                        differences[predicted],
                        data.labels[predicted],
                        data.about[person],
                    )
                )
            if len(found) == most:
                break
        return found


def _every_fifth(sizes: Int64[np.ndarray, " topics"], rng: np.random.Generator) -> Bool[np.ndarray, " topics"]:
    """One topic drawn from each five of similar size, so that large and small ones are held out alike.

    One of all where there are fewer, but never the only one; a topic of size zero cannot be held out.
    """
    order = np.lexsort((rng.random(len(sizes)), -sizes))
    chosen = [rng.choice(order[start : start + 5]) for start in range(0, len(order) - 4, 5)]
    free = np.flatnonzero(sizes)
    if len(free) >= 2 and not sizes[chosen].any():
        chosen = [rng.choice(free)]
    held = np.zeros(len(sizes), dtype=bool)
    held[chosen] = True
    return held
