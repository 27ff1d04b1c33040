"""Methods and controls over seeds of one problem, with all figures. Knows neither files nor data sets."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from app.training.evaluation.checks import Checks, run_checks
from app.training.evaluation.method import Method
from app.training.evaluation.problem import Problem
from app.training.evaluation.run import Record, ask_people, swapped, with_shuffled_answers, with_shuffled_people
from app.training.evaluation.scores import (
    METRICS,
    Bootstrap,
    CertaintyBin,
    Values,
    binned,
    certainty_bins,
    per_person,
)
from app.training.metrics import Interval

POPULATION = "population"
SWAPPED, SHUFFLED_ANSWERS, SHUFFLED_EVERYTHING = "swapped people", "shuffled answers", "shuffled everything"
Figures = dict[str, dict[int, Interval]]
"""Metric, then number of answers."""


@dataclass
class Campaign:
    """Records of every method and control on the same people; the first method is the one judged."""

    name: str
    seeds: tuple[int, ...]
    counts: tuple[int, ...]
    methods: dict[str, list[Record]]
    controls: dict[str, list[Record]] = field(default_factory=dict)
    checks: Checks | None = None
    left_out: dict[int, tuple[str, ...]] = field(default_factory=dict)
    """Test users asked for who have too few answers, by seed."""

    @property
    def names(self) -> list[str]:
        """Who every record is of; people whom several seeds held out come several times."""
        return [one.name for one in self.methods[self.subject]]

    @property
    def people(self) -> int:
        """How many different people were held out."""
        return len(set(self.names))

    @property
    def subject(self) -> str:
        """Name of the method that is judged."""
        return next(iter(self.methods))

    @cached_property
    def bootstrap(self) -> Bootstrap:
        """The draws of people that all intervals share."""
        return Bootstrap.of(self.names, np.random.default_rng(0))

    def figures(self, records: Sequence[Record]) -> Figures:
        """Means with intervals of every metric, and the calibration error."""
        found: Figures = {
            metric: {count: self.bootstrap.mean(per_person(records, count, metric)) for count in self.counts}
            for metric in METRICS
        }
        found["ece"] = {count: self.bootstrap.calibration_error(binned(records, count)) for count in self.counts}
        return found

    def difference(self, one: str, other: str, metric: str, count: int) -> Interval:
        """Paired difference of two methods or controls; ``POPULATION`` is the judged method before any answer."""
        return self.bootstrap.mean(self._values(one, metric, count) - self._values(other, metric, count))

    def paired(self) -> dict[str, Figures]:
        """The judged method minus the population and every other method."""
        return {
            f"{self.subject} - {other}": {
                metric: {count: self.difference(self.subject, other, metric, count) for count in self.counts}
                for metric in METRICS
            }
            for other in (POPULATION, *self.methods)
            if other != self.subject
        }

    def certainty(self) -> list[CertaintyBin]:
        """Certainty told and realised by the judged method."""
        return certainty_bins(self.methods[self.subject])

    def milliseconds(self, name: str) -> float:
        """Mean processor time of one question: choosing it and learning from its answer."""
        records = self.methods[name]
        spent = sum(sum(one.choosing) + sum(one.observing) for one in records)
        return 1e3 * spent / max(1, sum(len(one.questions) for one in records))

    def _values(self, name: str, metric: str, count: int) -> Values:
        if name == POPULATION:
            name, count = self.subject, 0
        return per_person({**self.controls, **self.methods}[name], count, metric)


def run_campaign(
    name: str,
    draw: Callable[[int], Problem],
    seeds: Sequence[int],
    methods: Sequence[Method],
    *,
    controls: bool = True,
    progress: Callable[[str], None],
) -> Campaign:
    """Fit and ask with every method at every seed; the first also meets the checks and, if wanted, the controls.

    ``progress`` is told each finished step in words.
    """
    campaign = Campaign(name, tuple(seeds), (), {method.name: [] for method in methods})
    for seed in seeds:
        problem = draw(seed)
        campaign.counts = problem.counts
        if problem.left_out:
            campaign.left_out[seed] = problem.left_out
            progress(f"{name}, seed {seed}: {_left_out(problem)}")
        for method in methods:
            method.fit(problem, np.random.default_rng(seed))
            records = ask_people(method, problem, problem.people, seed)
            campaign.methods[method.name] += records
            if method is methods[0]:
                campaign.checks = campaign.checks or run_checks(method, problem, records)
                if controls:
                    _control(campaign, method, problem, seed)
            progress(f"{name}, seed {seed}: {method.name}")
    return campaign


def _left_out(problem: Problem) -> str:
    """Whom a problem could not hold out, in words."""
    asked_for = len(problem.people) + len(problem.left_out)
    names = ", ".join(problem.left_out)
    return f"{len(problem.left_out)} of {asked_for} test users have too few answers: {names}."


def _control(campaign: Campaign, method: Method, problem: Problem, seed: int) -> None:
    """Controls of the judged method: another's answers; answers at random; the same, learned from people at random.

    The last learns that people hardly differ, and so should stay with the population; it comes last as it fits anew.
    """
    rng = np.random.default_rng([seed, 1])
    shuffled = with_shuffled_answers(problem.people, rng)
    found = {
        SWAPPED: ask_people(method, problem, swapped(problem.people), seed),
        SHUFFLED_ANSWERS: ask_people(method, problem, shuffled, seed),
    }
    method.fit(with_shuffled_people(problem, rng), np.random.default_rng(seed))
    found[SHUFFLED_EVERYTHING] = ask_people(method, problem, shuffled, seed)
    for control, records in found.items():
        campaign.controls.setdefault(control, []).extend(records)
