"""Which questions of the pool tell most about a person. Runs on numbers only; never asks the engine."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64

from app.entities import CandidatePair, QuestionPool
from app.ports import BasisRegistry
from app.preferences.batches import select_batch
from app.preferences.belief import Belief
from app.preferences.near_duplicates import near_duplicates
from app.preferences.selection import Rule, Selection, expected_information_bits, named_rule
from app.preferences.stopping import MINIMUM_INFORMATION_BITS
from app.services.questionnaires import Asked


@dataclass(frozen=True)
class Choice:
    """A pair to ask, with its differences (K,) on the active basis and what its answer is expected to tell."""

    pair: CandidatePair
    differences: tuple[float, ...]
    expected_information_bits: float


@dataclass(frozen=True)
class PoolQuestions:
    """Chooses from the pool: pairs of new prompts while there are any, and nothing that was almost asked before.

    ``rule``, a name in ``selection.RULES``, chooses single questions; those of a batch are always chosen for what they
    are expected to tell together.
    """

    registry: BasisRegistry
    rng: np.random.Generator
    rule: str = "v_optimal"

    def __call__(self, belief: Belief, asked: Asked, topic: str | None, count: int) -> list[Choice]:
        """At most ``count`` questions, the best first; fewer where the pool has no more that are worth asking.

        Where none is, the best alone, so that the caller can tell.
        """
        pool, rows = self.registry.pool, asked.differences(self.registry.pool)
        fresh, new_prompt = _allowed(pool, asked, topic)
        batch = self._batch(belief, rows, fresh, new_prompt, count) if count > 1 else []
        if batch:
            return batch
        selection = self._single(belief, rows, (new_prompt, fresh))
        return [] if selection is None else [self._choice(selection.index, selection.expected_information_bits)]

    def _single(
        self, belief: Belief, asked: Float64[np.ndarray, "asked basis"], masks: tuple[Bool[np.ndarray, " pairs"], ...]
    ) -> Selection | None:
        """The best pair of the first mask that has one unlike those asked; failing that, of the first that has any."""
        rule, differences = self._rule(), self.registry.pool.differences
        repeated: Selection | None = None
        for mask in masks:
            selection = self.registry.index.select(belief, mask, rule=rule, asked=asked)
            if selection is not None and not near_duplicates(differences[[selection.index]], asked)[0]:
                return selection
            repeated = repeated or selection
        return repeated

    def _batch(
        self,
        belief: Belief,
        asked: Float64[np.ndarray, "asked basis"],
        fresh: Bool[np.ndarray, " pairs"],
        new_prompt: Bool[np.ndarray, " pairs"],
        count: int,
    ) -> list[Choice]:
        """The pairs that tell most together, without any that tells too little beside the others."""
        pool = self.registry.pool
        rows = select_batch(
            belief,
            pool.differences,
            fresh,
            count,
            prompts=pool.prompts,
            new=new_prompt,
            asked=asked,
            minimum_bits=MINIMUM_INFORMATION_BITS,
        )
        bits = expected_information_bits(belief, pool.differences[rows])
        return [self._choice(int(row), float(told)) for row, told in zip(rows, bits, strict=True)]

    def _rule(self) -> Rule:
        reference = self.registry.basis.reference
        return named_rule(self.rule, rng=self.rng, target_moment=reference.T @ reference / len(reference))

    def _choice(self, row: int, bits: float) -> Choice:
        pool = self.registry.pool
        return Choice(pool.pairs[row], tuple(pool.differences[row].tolist()), bits)


def _allowed(
    pool: QuestionPool, asked: Asked, topic: str | None
) -> tuple[Bool[np.ndarray, " pairs"], Bool[np.ndarray, " pairs"]]:
    """Pairs of the topic that the person has not seen, and those among them whose prompt is new as well."""
    known = pool.topic_codes.get(topic, -1) if topic is not None else None
    fresh = np.ones(len(pool.pairs), dtype=np.bool_) if known is None else pool.topics == known
    fresh[[pool.rows[pair.key] for pair in asked.pairs if pair.key in pool.rows]] = False
    new = np.ones(len(pool.prompt_codes), dtype=np.bool_)
    new[[pool.prompt_codes[pair.prompt_id] for pair in asked.pairs if pair.prompt_id in pool.prompt_codes]] = False
    return fresh, fresh & new[pool.prompts]
