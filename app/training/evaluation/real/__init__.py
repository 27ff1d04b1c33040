"""Recorded answers of real people as evaluation problems: ``build_problem`` and the names it knows."""

from app.training.evaluation.real.build import REAL_PEOPLE, build_problem

__all__ = ["REAL_PEOPLE", "build_problem"]
