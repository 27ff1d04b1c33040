"""Ways of learning basis rewards offline, all behind one Protocol: ``variational``, the default, ``uniform``, ``pref``,
``lore`` and ``p-rm``."""

from app.training.methods.data import QUIET, BasisMethod, LearnedBasis, Run, TrainingData
from app.training.methods.lore import Lore
from app.training.methods.named import named_method
from app.training.methods.personal import PersonalRewardModel
from app.training.methods.pref import Pref
from app.training.methods.uniform import Uniform
from app.training.methods.variational import Variational

__all__ = [
    "QUIET",
    "BasisMethod",
    "LearnedBasis",
    "Lore",
    "PersonalRewardModel",
    "Pref",
    "Run",
    "TrainingData",
    "Uniform",
    "Variational",
    "named_method",
]
