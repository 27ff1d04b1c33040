"""Builds a prior again from what an artifact stores of it. Knows the families by name, and no files."""

from collections.abc import Callable, Mapping

import numpy as np

from app.preferences.belief import Prior
from app.preferences.priors.about import AboutPrior
from app.preferences.priors.atoms import AtomsPrior
from app.preferences.priors.gaussian import GaussianPrior
from app.preferences.priors.mixture import MixturePrior
from app.preferences.priors.simplex import SimplexPrior

LOADERS: dict[str, Callable[[Mapping[str, np.ndarray]], Prior]] = {
    GaussianPrior.family: GaussianPrior.from_arrays,
    AtomsPrior.family: AtomsPrior.from_arrays,
    MixturePrior.family: MixturePrior.from_arrays,
    SimplexPrior.family: SimplexPrior.from_arrays,
    AboutPrior.family: AboutPrior.from_arrays,
}


def load_prior(family: str, arrays: Mapping[str, np.ndarray]) -> Prior:
    """Build the prior whose ``family`` and ``arrays()`` were stored.

    Args:
        family: Name of the family, as ``Prior.family`` gives it.
        arrays: What ``Prior.arrays`` gave; arrays of other names are ignored.

    Raises:
        ValueError: If the family is unknown, an array is missing, or the arrays describe no prior.
    """
    if family not in LOADERS:
        raise ValueError(f"There is no family of priors {family!r}; use one of {', '.join(sorted(LOADERS))}.")
    try:
        return LOADERS[family](arrays)
    except KeyError as error:
        raise ValueError(f"A {family} prior needs the array {error}; store everything that arrays() gives.") from error
