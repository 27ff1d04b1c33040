"""The baselines that ``attune evaluate`` compares with, by name."""

from collections.abc import Callable

from app.training.evaluation.method import Method
from benchmarks.baselines.lore_method import LoreMethod
from benchmarks.baselines.pref_method import PrefMethod, flat_map
from benchmarks.baselines.simple_methods import PerUserMethod, UniformMethod

METHODS: dict[str, Callable[[], Method]] = {
    "pref": PrefMethod,
    "pref-flat": lambda: PrefMethod("pref-flat", flat_map),
    "lore": LoreMethod,
    "uniform": UniformMethod,
    "per-user": PerUserMethod,
}
