"""Finds the baselines to compare with: they live beside the package in a checkout, and in no installation."""

from collections.abc import Callable, Mapping
from importlib import import_module

from app.errors import InvalidInput
from app.training.evaluation.method import Method

MODULE = "benchmarks.baselines.methods"


def chosen_baselines(names: str | None, notice: Callable[[str], None]) -> list[Callable[[], Method]]:
    """Makers of the baselines in ``names`` (commas between), of all if None; ``notice`` is told if there are none.

    Raises:
        InvalidInput: If a name is not that of a baseline.
    """
    known = _baselines()
    if names is None:
        if not known:
            notice("The baselines are part of a checkout, not of an installation; only attune's own method is run.")
        return list(known.values())
    wanted = [name.strip() for name in names.split(",") if name.strip()]
    unknown = [name for name in wanted if name not in known]
    if unknown:
        there = ", ".join(known) if known else "none: run from a checkout to have them"
        raise InvalidInput(f"There is no baseline {unknown[0]!r}; there are: {there}.")
    return [known[name] for name in wanted]


def _baselines() -> Mapping[str, Callable[[], Method]]:
    try:
        found: Mapping[str, Callable[[], Method]] = import_module(MODULE).METHODS
    except ModuleNotFoundError as error:
        if error.name is None or not MODULE.startswith(error.name):
            raise
        return {}
    return found
