"""Runs every cell of the frontier and keeps what each person got: wins, rewards, tokens, texts."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float64, Int64

from app.entities import CandidateSet
from app.errors import InvalidInput
from app.ports import Decoder
from app.preferences.belief import Belief
from app.training.frontier.arms import Cell, Knowledge
from app.training.frontier.draws import (
    Answer,
    Sampling,
    Shared,
    choose,
    draw_shared,
    draw_steered,
    seconds_alone,
)
from app.training.frontier.people import Judge, Person, Wishes, wishes

TIMED = 3


@dataclass(frozen=True)
class Sizes:
    """Each person judges ``each`` of ``prompts`` prompts; every answer against ``others`` plain ones."""

    prompts: int = 48
    each: int = 12
    others: int = 8


@dataclass
class CellResult:
    """What a cell gave: ``wins`` and ``rewards`` a person (people,), the rest one entry an answer.

    ``wins`` is the share of plain answers that the person likes less, draws counting one half. ``rewards`` is the mean
    reward of the answers above a plain one, under the person's own coefficients as known from answers.
    """

    cell: Cell
    wins: list[float] = field(default_factory=list)
    rewards: list[float] = field(default_factory=list)
    generated: list[int] = field(default_factory=list)
    lengths: list[int] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    texts: list[tuple[str, str]] = field(default_factory=list)


@dataclass
class Measured:
    """All cells by name, a plain answer's mean tokens (one a seed), and cells left out with the reason."""

    cells: dict[str, CellResult] = field(default_factory=dict)
    plain_tokens: list[float] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)


class Frontier:
    """People, prompts and an engine; ``run`` takes one cell after another."""

    def __init__(
        self,
        decoder: Decoder,
        people: Sequence[Person],
        judge: Judge,
        prompts: Sequence[str],
        population: Belief,
        sampling: Sampling,
        sizes: Sizes,
    ) -> None:
        if len(prompts) < sizes.each:
            raise InvalidInput(f"{len(prompts)} prompts are too few for {sizes.each} each; lower --each.")
        self.decoder, self.people, self.judge, self.population = decoder, people, judge, population
        self.sampling, self.sizes = sampling, sizes
        rng = np.random.default_rng([sampling.seed, 1])
        count = min(sizes.prompts, len(prompts))
        self.prompts = [prompts[i] for i in rng.permutation(len(prompts))[:count]]
        self.own = np.array([rng.permutation(count)[: sizes.each] for _ in people])

    async def run(self, cells: Sequence[Cell], into: Measured, progress: Callable[[str, int, int], None]) -> None:
        """Measure ``cells`` and add what comes out to ``into``."""
        most = max(cell.arm.n for cell in cells if cell.arm.plain)
        steps = _Steps("plain candidates", 2 * len(self.prompts), progress)
        shared = await draw_shared(self.decoder, self.prompts, most, self.sizes.others, self.sampling, steps.one_more)
        against = _Against.of(self.judge, shared)
        into.plain_tokens.append(float(shared.plain_tokens[self.own].mean()))
        for cell in cells:
            lacking = cell.arm.needs - self.decoder.steering if cell.arm.needs else frozenset()
            if lacking:
                into.left_out[cell.name] = f"the engine cannot do {', '.join(sorted(lacking))}"
                continue
            answers = await self._answers(cell, shared, progress)
            result = into.cells.setdefault(cell.name, CellResult(cell))
            self._judge(result, answers, shared, against)
            result.seconds.append(await self._time(cell))

    def _wanted(self, known: Knowledge) -> list[tuple[int, Wishes]]:
        """Every person's prompts, with what is taken for the person's wishes; person by person."""
        found = [wishes(self.people, number, known) for number in range(len(self.people))]
        return [(int(prompt), one) for one, row in zip(found, self.own, strict=True) for prompt in row]

    async def _answers(self, cell: Cell, shared: Shared, progress: Callable[[str, int, int], None]) -> list[Answer]:
        wanted = self._wanted(cell.known)
        steps = _Steps(cell.name, len(wanted), progress)
        drawn: Sequence[CandidateSet]
        if cell.arm.plain:
            drawn = [shared.first(prompt, cell.arm.n) for prompt, _ in wanted]
        else:
            drawn = await draw_steered(self.decoder, self.prompts, cell.arm, wanted, self.sampling, steps.one_more)
        return [choose(one, asked[1], self.population) for one, asked in zip(drawn, wanted, strict=True)]

    def _judge(self, result: CellResult, answers: Sequence[Answer], shared: Shared, against: "_Against") -> None:
        truth = self.judge.rewards([answer.text for answer in answers])
        plain = shared.plain_rewards
        each = self.own.shape[1]
        for number, person in enumerate(self.people):
            places = range(number * each, (number + 1) * each)
            prompts = self.own[number]
            margins = truth[number, places.start : places.stop, None] - against.rewards[number, prompts]
            gained = np.array([answers[i].basis_rewards for i in places]) - plain[prompts]
            result.wins.append(float((0.5 + 0.5 * np.sign(margins)).mean()))
            result.rewards.append(float((gained @ person.answers.mean).mean()))
        result.generated += [answer.generated for answer in answers]
        result.lengths += [answer.length for answer in answers]
        result.texts += [
            (self.prompts[prompt], answer.text) for prompt, answer in zip(self.own.ravel(), answers, strict=True)
        ]

    async def _time(self, cell: Cell) -> float:
        wanted = self._wanted(cell.known)
        some = [wanted[i] for i in np.linspace(0, len(wanted) - 1, TIMED).astype(int)]
        return await seconds_alone(self.decoder, self.prompts, cell.arm, some, self.sampling)


@dataclass(frozen=True)
class _Against:
    """True rewards (people, prompts, others) of the plain answers that everything is judged against."""

    rewards: Float64[np.ndarray, "people prompts others"]

    @classmethod
    def of(cls, judge: Judge, shared: Shared) -> "_Against":
        texts = [one.text for drawn in shared.others for one in drawn.candidates]
        rewards = judge.rewards(texts)
        return cls(rewards.reshape(len(rewards), len(shared.others), -1))


class _Steps:
    """Counts pieces of work for whoever watches."""

    def __init__(self, name: str, total: int, progress: Callable[[str, int, int], None]) -> None:
        self.name, self.total, self.done, self.progress = name, total, 0, progress

    def one_more(self) -> None:
        self.done += 1
        self.progress(self.name, self.done, self.total)


def sample_places(count: int, most: int) -> Int64[np.ndarray, " places"]:
    """At most ``most`` places, evenly spread over ``count``."""
    return np.unique(np.linspace(0, count - 1, min(count, most)).astype(np.int64))
