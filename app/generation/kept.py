"""Candidate sets kept for requests that repeat. Knows no engine."""

from collections import OrderedDict
from dataclasses import replace

from app.entities import CandidateSet, Conversation, SamplingOptions, Steering

_Key = tuple[Conversation, SamplingOptions, Steering | None, int]


class KeptCandidates:
    """Up to ``capacity`` sets by conversation, options and steering; those used longest ago are forgotten first.

    Steered candidates may depend on how many there are, so that only sets of the same size are recalled. ``epoch``
    counts how often everything was dropped.
    """

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self._kept: OrderedDict[_Key, CandidateSet] = OrderedDict()
        self.epoch = 0

    def __len__(self) -> int:
        return len(self._kept)

    def recall(
        self, conversation: Conversation, n: int, options: SamplingOptions, steering: Steering | None = None
    ) -> CandidateSet | None:
        """The first ``n`` of the candidates kept for this request, if there are as many."""
        key = conversation, options, steering, 0 if steering is None else n
        kept = self._kept.get(key)
        if kept is None or len(kept.candidates) < n:
            return None
        self._kept.move_to_end(key)
        if len(kept.candidates) == n:
            return kept
        first = kept.candidates[:n]
        return replace(kept, candidates=first, completion_tokens=sum(one.tokens for one in first))

    def keep(
        self,
        conversation: Conversation,
        options: SamplingOptions,
        drawn: CandidateSet,
        steering: Steering | None = None,
        *,
        epoch: int | None = None,
    ) -> None:
        """Keep a set, unless its options tell that nobody can ask for it again, or a larger one is kept.

        With the ``epoch`` at which it was asked for, nor if everything has been dropped since.
        """
        if not options.cacheable or epoch not in (None, self.epoch):
            return
        key = conversation, options, steering, 0 if steering is None else len(drawn.candidates)
        known = self._kept.get(key)
        if known is None or len(known.candidates) <= len(drawn.candidates):
            self._kept[key] = drawn
        self._kept.move_to_end(key)
        while len(self._kept) > self.capacity:
            self._kept.popitem(last=False)

    def forget(self) -> None:
        """Drop everything."""
        self._kept.clear()
        self.epoch += 1
