"""Methods by the names that the command line and the card use."""

from app.training.methods.data import BasisMethod
from app.training.methods.lore import Lore
from app.training.methods.personal import PersonalRewardModel, UserModel
from app.training.methods.pref import Pref
from app.training.methods.uniform import Uniform
from app.training.methods.variational import Variational

METHODS = ("variational", "uniform", "pref", "lore", "p-rm")


def named_method(name: str, rank: int, *, user_model: UserModel = "individual", alpha: float = 0.5) -> BasisMethod:
    """The method called ``name``; ``user_model`` and ``alpha`` are those of ``p-rm``. ``uniform`` ignores ``rank``.

    Raises:
        ValueError: If there is no method of that name.
    """
    if name == "uniform":
        return Uniform()
    if name == "variational":
        return Variational(rank)
    if name == "pref":
        return Pref(rank)
    if name == "lore":
        return Lore(rank)
    if name == "p-rm":
        return PersonalRewardModel(rank, user_model, alpha)
    raise ValueError(f"There is no method {name!r}; choose one of {', '.join(METHODS)}.")
