"""The evaluations by name: simulated worlds that need no data, and real people from files."""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from app.errors import InvalidInput
from app.training.evaluation.attributes import ATTRIBUTES, CONSENSUS, attributes_problem
from app.training.evaluation.personalllm import CELLS, personalllm_problem
from app.training.evaluation.problem import Problem
from app.training.evaluation.real import REAL_PEOPLE, build_problem

Draw = Callable[[int], Problem]

SIMULATED: Mapping[str, Mapping[str, Draw]] = {
    "attributes": {"attributes": partial(attributes_problem, ATTRIBUTES)},
    "consensus": {"consensus": partial(attributes_problem, CONSENSUS)},
    "personalllm": {cell.name: partial(personalllm_problem, cell) for cell in CELLS},
}
NAMES = (*SIMULATED, *REAL_PEOPLE)


def draws(name: str, data: Path | None, test_users: frozenset[str] | None) -> Mapping[str, Draw]:
    """How to draw each campaign of the evaluation ``name`` from a seed.

    Raises:
        InvalidInput: If there is no such evaluation, or it needs ``data`` and got none, or got what it cannot use.
    """
    if name in SIMULATED:
        if test_users is not None:
            raise InvalidInput(f"The people of '{name}' are simulated; leave out --test-users.")
        return SIMULATED[name]
    if name not in REAL_PEOPLE:
        raise InvalidInput(f"There is no evaluation '{name}'; choose one of {', '.join(NAMES)}.")
    if data is None:
        raise InvalidInput(f"'{name}' is about real people; pass --data with the folder of its files.")
    return {name: lambda seed: build_problem(name, data, seed, test_users)}


def read_test_users(path: Path) -> frozenset[str]:
    """Ids of the people to hold out, one a line; raises ``InvalidInput`` if the file cannot be read or names nobody."""
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput(
            f"Cannot read the test users in {path}: {error}; pass a text file, one id a line."
        ) from error
    names = frozenset(line.strip() for line in lines if line.strip())
    if not names:
        raise InvalidInput(f"{path} names nobody; write one id a line, or leave out --test-users.")
    return names
