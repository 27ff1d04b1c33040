"""A prior that reads what people write of themselves."""

from dataclasses import replace

import numpy as np

from app.preferences.priors.gaussian import GaussianPrior


class ReadingPrior(GaussianPrior):
    """Somebody who writes of warmth has a second coefficient that is higher by one."""

    def told(self, about: str | None) -> GaussianPrior:
        if about is None or "warm" not in about:
            return self
        offset = np.zeros(self.population.size)
        offset[1] = 1.0
        return replace(self, population=self.population.moved(offset))
