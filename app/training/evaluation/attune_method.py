"""attune as a method under evaluation: the basis, prior, response model and question rule that the service would use.

Response model and certainty curve are fitted on training people set aside, with a basis and a prior that have not seen
them; the basis and the prior in use are then learned from all training people.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from jaxtyping import Bool, Float64, Int64

from app.errors import InvalidInput
from app.preferences.answers import Answers, ResponseModel
from app.preferences.belief import Belief, Prior, PriorFit
from app.preferences.certainty import CertaintyCurve, certainty
from app.preferences.priors.choose import FAMILIES, Choice, choose_prior
from app.preferences.priors.gaussian import GaussianPrior
from app.preferences.selection import Rule, expected_information_bits, select_pair
from app.training.calibration import choose_response, choose_scale, choose_trust, fit_certainty, trusted
from app.training.evaluation.folds import Fold, draw_folds
from app.training.evaluation.problem import Pairs, Problem, TestPerson
from app.training.families import mean_loss
from app.training.methods.choose import RANKS, choose_rank, choose_spread, ranked
from app.training.methods.common_spread import choose_common_spread
from app.training.methods.data import BasisMethod, TrainingData
from app.training.methods.named import METHODS, named_method
from app.training.replay import RecordedPerson, choice_probability
from app.training.splits import FEWEST_ASKED, FEWEST_PREDICTED

MOST_FOR_PRIOR = 600
"""People that the prior is fitted on."""
MOST_FOR_SETTINGS = 1500
"""People that bases are learned from before settings and calibration are chosen; the one in use learns from all."""
RuleMaker = Callable[[np.random.Generator], Rule]


def most_informative(_rng: np.random.Generator) -> Rule:
    """The service's own rule."""
    return expected_information_bits


@dataclass(frozen=True)
class Options:
    """What ablations change: the basis method, the prior family (chosen, if None), the rule, and calibration."""

    basis: str = "variational"
    family: str | None = None
    rule: RuleMaker = most_informative
    calibrated: bool = True

    def __post_init__(self) -> None:
        if self.basis not in METHODS:
            raise InvalidInput(f"There is no basis method {self.basis!r}; use one of {', '.join(METHODS)}.")
        if self.family is not None and not self.families():
            known = ", ".join(one.family for one in FAMILIES)
            raise InvalidInput(f"There is no family of priors {self.family!r} to fit; use one of {known}.")

    def families(self) -> tuple[PriorFit, ...]:
        """Families to choose from."""
        return tuple(one for one in FAMILIES if self.family in {None, one.family})


@dataclass
class AttuneMethod:
    """Learn a basis and a population; ask what tells most; predict with the coefficients integrated out."""

    name: str = "attune"
    options: Options = Options()
    prior: Prior = field(init=False)
    basis: BasisMethod = field(init=False)
    families: tuple[PriorFit, ...] = field(init=False)
    own: bool = field(init=False)
    scale: float = field(init=False)
    trust: float = field(init=False)
    response: ResponseModel = field(init=False)
    curve: CertaintyCurve = field(init=False)
    rewards: Float64[np.ndarray, "rows basis"] = field(init=False)

    def fit(self, problem: Problem, rng: np.random.Generator) -> None:
        """Choose settings, family, scale and response with training people set aside, then learn from all of them."""
        everything = np.ones(len(problem.training), dtype=bool)
        folds = draw_folds(problem, rng, most=MOST_FOR_SETTINGS) if self.options.calibrated else []
        self.basis = self._choose_basis(problem, folds[0].learned if folds else everything, rng)
        self.families = self.options.families()
        self.own = False
        self.scale, self.trust = 1.0, 1.0
        self.response, self.curve = ResponseModel(), CertaintyCurve.identity()
        if folds:
            self._calibrate(problem, folds, rng)
        learned = self._learn(problem, everything, rng)
        if self.own and learned.own is not None:
            self.prior, self.rewards = learned.own, learned.rewards
        else:
            self.prior, self.rewards = learned.fitted(self.families, rng).prior, learned.standardised
        self.prior = trusted(self.prior, self.trust)
        self.rewards = self.scale * self.rewards

    def begin(self, person: TestPerson, rng: np.random.Generator) -> "AttuneSession":
        """Start from the prior of somebody who wrote what the person wrote."""
        rows = self._differences(person.asked)
        return AttuneSession(self, self.prior.told(person.about), rows, self.options.rule(rng))

    def _choose_basis(
        self, problem: Problem, members: Bool[np.ndarray, " comparisons"], rng: np.random.Generator
    ) -> BasisMethod:
        """How far rewards may vary, and how many there are, by held-out texts and people."""
        data, _ = training_data(problem, members)
        method = choose_common_spread(data, named_method(self.options.basis, problem.rank or 1), rng)
        if problem.rank is None:
            method = ranked(method, choose_rank(data, method, RANKS, rng)[0])
        return choose_spread(data, method, rng)

    def _calibrate(self, problem: Problem, folds: Sequence[Fold], rng: np.random.Generator) -> None:
        """Families, scale, trust and response, by people whom the fold's heads and prior have not seen.

        The first fold decides between the method's own prior and a fitted one. An own prior is the same in every fold,
        so that the people of all folds are then put together; a fitted one is calibrated on the first fold's people.
        """
        learned = self._learn(problem, folds[0].learned, rng)
        fitted = learned.fitted(self.families, rng)
        self.families = tuple(one for one in self.families if one.family == fitted.prior.family)
        people = recorded_people(problem, learned.standardised, folds[0])
        prior = fitted.prior
        if learned.own is not None and self.options.family is None:
            own = recorded_people(problem, learned.rewards, folds[0])
            if mean_loss(own, learned.own) <= mean_loss(people, prior):
                self.own, prior = True, learned.own
                rest = [
                    recorded_people(problem, self._learn(problem, one.learned, rng).rewards, one) for one in folds[1:]
                ]
                people = [person for group in (own, *rest) for person in group]
        self.scale = choose_scale(people, prior, rng)
        people = [person.scaled(self.scale) for person in people]
        self.trust = choose_trust(people, prior, rng)
        prior = trusted(prior, self.trust)
        self.response = choose_response(people, prior, rng)
        self.curve = fit_certainty(people, prior, self.response)

    def _learn(
        self, problem: Problem, members: Bool[np.ndarray, " comparisons"], rng: np.random.Generator
    ) -> "Learned":
        """Basis rewards of all rows from the marked comparisons, with what a prior can be fitted on."""
        data, ids = training_data(problem, members)
        basis = self.basis.fit(data, rng)
        about = None if problem.about is None else [problem.about[one] for one in ids]
        own = None if basis.prior is None else GaussianPrior(basis.prior)
        return Learned(data, np.asarray(basis.rewards(data.features), dtype=np.float64), own, about)

    def _differences(self, pairs: Pairs) -> Float64[np.ndarray, "pairs basis"]:
        return np.asarray(self.rewards[pairs.first] - self.rewards[pairs.second], dtype=np.float64)


@dataclass(frozen=True)
class Learned:
    """Basis ``rewards`` of all rows, the comparisons they were learned from, and the method's ``own`` prior, if any."""

    data: TrainingData
    rewards: Float64[np.ndarray, "rows basis"]
    own: GaussianPrior | None
    about: Sequence[str | None] | None

    @cached_property
    def standardised(self) -> Float64[np.ndarray, "rows basis"]:
        """Rewards whose differences between compared rows have unit spread: what families are fitted on."""
        spread = (self.rewards[self.data.first] - self.rewards[self.data.second]).std(axis=0)
        return self.rewards / np.where(spread > 0.0, spread, 1.0)

    def fitted(self, families: Sequence[PriorFit], rng: np.random.Generator) -> Choice:
        """The family that serves left-out people best, fitted on at most ``MOST_FOR_PRIOR`` people."""
        data = self.data
        some = np.isin(data.people, rng.permutation(data.person_count)[:MOST_FOR_PRIOR])
        differences = self.standardised[data.first[some]] - self.standardised[data.second[some]]
        people = data.people[some]
        about = None if self.about is None else [self.about[one] for one in np.unique(people)]
        return choose_prior(differences, data.labels[some], people, families=families, about=about, rng=rng)


class AttuneSession:
    """One person: the belief after each answer, refitted from all of them."""

    def __init__(
        self, method: AttuneMethod, prior: Prior, rows: Float64[np.ndarray, "pairs basis"], rule: Rule
    ) -> None:
        self._method, self._prior, self._rows, self._rule = method, prior, rows, rule
        self._asked: list[int] = []
        self._labels: list[float] = []
        self.belief: Belief = prior.population

    def choose(self, allowed: Bool[np.ndarray, " pairs"]) -> int:
        """The allowed pair that the rule gains most from."""
        selection = select_pair(self.belief, self._rows, allowed, rule=self._rule)
        if selection is None:
            raise ValueError("No pair is allowed; stop asking.")
        return selection.index

    def observe(self, index: int, label: float) -> None:
        """Refit the belief from all answers so far."""
        self._asked.append(index)
        self._labels.append(label)
        answers = Answers.of(self._rows[self._asked], np.array(self._labels))
        self.belief, _ = self._prior.condition(answers, self._method.response)

    def predict(self, pairs: Pairs) -> Float64[np.ndarray, " pairs"]:
        """Probabilities of choosing the first text of each pair."""
        return choice_probability(self.belief, self._method._differences(pairs), self._method.response)

    def told(self, pairs: Pairs) -> float:
        """Certainty by the fitted curve, as the service tells it."""
        return certainty(self.belief, self._method._differences(pairs), self._method.curve)


def training_data(
    problem: Problem, members: Bool[np.ndarray, " comparisons"]
) -> tuple[TrainingData, Int64[np.ndarray, " people"]]:
    """The marked training comparisons, and which training people they are of."""
    pairs = problem.training
    ids, people = np.unique(problem.training_people[members], return_inverse=True)
    columns = (pairs.first[members], pairs.second[members], people.astype(np.int64), pairs.labels[members])
    return TrainingData(problem.features, *columns, rows=problem.rows), ids


def recorded_people(
    problem: Problem, rewards: Float64[np.ndarray, "rows basis"], fold: Fold
) -> Sequence[RecordedPerson]:
    """The people set aside who have enough to be asked and to be predicted on."""
    pairs = problem.training
    differences = rewards[pairs.first] - rewards[pairs.second]
    found = []
    for person in np.unique(problem.training_people[fold.asked]):
        mine = problem.training_people == person
        asked, predicted = mine & fold.asked, mine & fold.predicted
        if asked.sum() >= FEWEST_ASKED and predicted.sum() >= FEWEST_PREDICTED:
            about = problem.about[person] if problem.about else None
            found.append(
                RecordedPerson(
                    differences[asked], pairs.labels[asked], differences[predicted], pairs.labels[predicted], about
                )
            )
    return found
