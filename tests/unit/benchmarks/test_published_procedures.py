"""The published procedures that speed is measured against do what their formulas say."""

import numpy as np
import pytest
import torch

from app.preferences.gaussian import Posterior
from app.preferences.logistic import sigmoid
from app.preferences.posterior import precision
from benchmarks.baselines import lore, pref
from benchmarks.numerics.measure import Findings, milliseconds, times


def test_lean_descent_takes_the_steps_of_the_published_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pref, "DESCENT_STEPS", 50)
    rng = np.random.default_rng(0)
    rows, answers = rng.standard_normal((12, 3)), rng.choice([0.0, 1.0], 12)
    published = pref.descend(rows, answers, np.random.default_rng(1))
    np.testing.assert_allclose(pref.descend_lean(rows, answers, np.random.default_rng(1)), published, atol=1e-12)


def test_the_published_choice_is_the_largest_of_its_formula() -> None:
    rng = np.random.default_rng(2)
    coefficients, asked, rows = rng.standard_normal(4), rng.standard_normal((6, 4)), rng.standard_normal((80, 4))
    curvature = precision(Posterior(np.zeros(4), pref.RIDGE * np.eye(4)), asked, coefficients)
    slopes = sigmoid(rows @ coefficients) * sigmoid(-(rows @ coefficients))
    gains = slopes**2 * np.einsum("nk,kl,nl->n", rows, np.linalg.inv(curvature), rows)
    assert pref.choose_one_by_one(coefficients, asked, rows) == np.argmax(gains)


def test_the_published_joint_fit_learns_whom_it_is_shown() -> None:
    rng = np.random.default_rng(3)
    taste, rows = rng.standard_normal(5), rng.standard_normal((60, 5)).astype(np.float32)
    chosen = (rows * np.sign(rows @ taste)[:, None]).astype(np.float32)
    people = [torch.from_numpy(chosen[:30]), torch.from_numpy(chosen[30:])]
    directions, logits = lore.fit_lore(people, 2, 0, iterations=200)
    margins = lore.lore_margins(directions, logits, chosen, np.repeat([0, 1], 30))
    assert (margins > 0.0).mean() > 0.95


def test_ratios_are_taken_round_by_round() -> None:
    assert times([2.0, 30.0, 4.0], [1.0, 10.0, 1.0])["median"] == 3.0


def test_milliseconds_are_a_thousand_times_seconds() -> None:
    assert milliseconds([0.002, 0.002])["median"] == pytest.approx(2.0)


def test_findings_add_up() -> None:
    both = Findings({"a": {}}, {"x": 1}) | Findings({"b": {}}, {"y": 2})
    assert (set(both.ratios), set(both.figures)) == ({"a", "b"}, {"x", "y"})
