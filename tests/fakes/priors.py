"""A prior that reads what people write of themselves, and priors whose fits do not get to their end."""

from dataclasses import replace
from typing import Any

import numpy as np

from app.preferences.answers import Answers, ResponseModel
from app.preferences.belief import Belief, FitReport, Prior
from app.preferences.priors.gaussian import GaussianPrior


class ReadingPrior(GaussianPrior):
    """Somebody who writes of warmth has a second coefficient that is higher by one."""

    def told(self, about: str | None) -> GaussianPrior:
        if about is None or "warm" not in about:
            return self
        offset = np.zeros(self.population.size)
        offset[1] = 1.0
        return replace(self, population=self.population.moved(offset))


def unsolved(family: type[Any]) -> type[Any]:
    """The same family, whose fits stop before they have converged."""

    class Unsolved(family):  # type: ignore[misc]
        def told(self, about: str | None) -> Prior:
            return self

        def condition(self, answers: Answers, response: ResponseModel) -> tuple[Belief, FitReport]:
            belief, _ = super().condition(answers, response)
            return belief, FitReport(converged=False, iterations=1, largest_gradient=1.0)

    return Unsolved
