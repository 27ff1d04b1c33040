"""Simulated people, and what the service would know of them. Answers are given offline, by the service's own code."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cached_property
from typing import Protocol

import numpy as np
from jaxtyping import Float64

from app.entities import Basis, Comparison, FrontierPoint, Question, QuestionPool, User
from app.preferences.answers import Answers, ResponseModel
from app.preferences.belief import Belief
from app.preferences.choice import rank_candidates
from app.preferences.pool_index import PoolIndex
from app.services.estimator import Estimator
from app.services.pool_questions import Choice, PoolQuestions
from app.services.preference_log import PreferenceLog
from app.services.questionnaires import Asked
from app.training.frontier.arms import Knowledge

TIMES_ANSWERED = 100.0
"""How often a person who is fully known has answered every pair of the pool: the prior has next to no weight left."""
_DAY = datetime(2026, 1, 1, tzinfo=UTC)


class Judge(Protocol):
    """Hidden tastes of people."""

    def rewards(self, texts: Sequence[str]) -> Float64[np.ndarray, "people texts"]:
        """True reward of each person for each text, in log-odds."""


@dataclass(frozen=True)
class OfflineRegistry:
    """Implements ``ports.BasisRegistry`` without a service."""

    basis: Basis
    pool: QuestionPool
    frontier: Sequence[FrontierPoint] = ()

    @cached_property
    def index(self) -> PoolIndex:
        """The pool's pairs, prepared for choosing questions."""
        return PoolIndex.of(self.pool.differences, self.basis.prior.population)


@dataclass(frozen=True)
class Person:
    """What is known of somebody: ``answers`` after a questionnaire, ``full`` after endless answers to all questions."""

    answers: Belief
    full: Belief


@dataclass(frozen=True)
class Wishes:
    """By what a candidate is chosen: coefficients (K,), and the belief that they come from, if there is one."""

    coefficients: Float64[np.ndarray, " basis"]
    belief: Belief | None

    def best(self, population: Belief, rewards: Float64[np.ndarray, "candidates basis"]) -> int:
        """The candidate that the service would choose; without a belief, the one with the largest reward."""
        if self.belief is None:
            return int(np.argmax(rewards @ self.coefficients))
        return int(rank_candidates(self.belief, population, rewards)[0])


def wishes(people: Sequence[Person], number: int, known: Knowledge) -> Wishes:
    """What the service takes for the wishes of a person, or of the wrong one, or their opposite."""
    person = people[(number + 1) % len(people)] if known == "swapped" else people[number]
    belief = person.full if known == "full" else person.answers
    return Wishes(-belief.mean, None) if known == "reversed" else Wishes(belief.mean, belief)


def get_to_know(
    registry: OfflineRegistry, judge: Judge, people: int, *, questions: int, rule: str, seed: int
) -> list[Person]:
    """Put questions of the pool to each of ``people`` as the service would; they answer with Bradley-Terry noise.

    ``full`` is the belief after every pair of the pool was answered a hundred times, without noise in the shares.
    """
    margins = _margins(registry.pool, judge)
    return [
        Person(
            _after_questions(registry, row, questions, rule, np.random.default_rng([seed, number])),
            _after_everything(registry, row),
        )
        for number, row in enumerate(margins[:people])
    ]


def _margins(pool: QuestionPool, judge: Judge) -> Float64[np.ndarray, "people pairs"]:
    """True margins of the first response over the second."""
    texts = list(dict.fromkeys(text for pair in pool.pairs for text in (pair.first, pair.second)))
    column = {text: number for number, text in enumerate(texts)}
    rewards = judge.rewards(texts)
    first, second = ([column[getattr(pair, side)] for pair in pool.pairs] for side in ("first", "second"))
    margins: Float64[np.ndarray, "people pairs"] = rewards[:, first] - rewards[:, second]
    return margins


def _after_questions(
    registry: OfflineRegistry,
    margins: Float64[np.ndarray, " pairs"],
    count: int,
    rule: str,
    rng: np.random.Generator,
) -> Belief:
    ask, estimate = PoolQuestions(registry, rng, rule), Estimator(registry)
    log = PreferenceLog(User("simulated", None, True, {}, _DAY, _DAY), (), (), 0, None)
    asked: tuple[Question, ...] = ()
    for position in range(count):
        chosen = ask(estimate(log).belief, Asked(asked), None, 1)
        if not chosen:
            break
        margin = margins[registry.pool.rows[chosen[0].pair.key]]
        first = bool(rng.random() < 1 / (1 + np.exp(-margin)))
        asked = (*asked, _question(chosen[0], position, registry.basis.version))
        comparison = _comparison(chosen[0], position, registry.basis.version, first=first)
        log = replace(log, comparisons=(*log.comparisons, comparison), version=position + 1)
    return estimate(log).belief


def _question(choice: Choice, position: int, version: str) -> Question:
    return Question(
        id=f"question-{position}",
        questionnaire_id="simulated",
        position=position,
        pair=choice.pair,
        swapped=False,
        expected_information_bits=choice.expected_information_bits,
        answer=None,
        latency_ms=None,
        basis_version=version,
        differences=choice.differences,
    )


def _comparison(choice: Choice, position: int, version: str, *, first: bool) -> Comparison:
    return Comparison(
        id=f"comparison-{position}",
        user_id="simulated",
        prompt=(),
        first=choice.pair.first,
        second=choice.pair.second,
        preferred="first" if first else "second",
        basis_version=version,
        differences=choice.differences,
        source="questionnaire",
        created_at=_DAY,
    )


def _after_everything(registry: OfflineRegistry, margins: Float64[np.ndarray, " pairs"]) -> Belief:
    share = 1 / (1 + np.exp(-margins))
    differences = registry.pool.differences
    answers = Answers.of(
        np.concatenate([differences, differences]),
        np.repeat([1.0, 0.0], len(margins)),
        TIMES_ANSWERED * np.concatenate([share, 1 - share]),
    )
    return registry.basis.prior.told(None).condition(answers, ResponseModel())[0]
