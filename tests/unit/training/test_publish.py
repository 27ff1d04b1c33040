from dataclasses import replace

import numpy as np
import pytest

from app.entities import Axis, Message
from app.preferences.answers import ResponseModel
from app.preferences.certainty import CertaintyCurve
from app.preferences.posterior import Posterior
from app.preferences.priors.gaussian import GaussianPrior
from app.training.dataset import ComparisonData, RawComparison
from app.training.evidence import Certainty, Evidence
from app.training.families import FittedPrior
from app.training.fit import FittedBasis
from app.training.methods import Pref
from app.training.metrics import Interval
from app.training.properties import PROPERTIES, PropertyScale
from app.training.publish import data_sha256, method_facts, publish_basis
from app.training.replay import ReplayScores
from app.training.serving import Serving

HIDDEN, SIZE = 4, 2
SCORES = [ReplayScores(0, 9, *[Interval(0.61, 0.5, 0.7)] * 3, 0.021)]
LINE = RawComparison("u1", (Message("user", "Hi?"),), "Yes.", "No.", "first")


@pytest.fixture
def fitted():
    rng = np.random.default_rng(0)
    return FittedBasis(
        method=Pref(SIZE),
        heads=rng.standard_normal((SIZE, HIDDEN)),
        offset=np.array([0.5, -0.5]),
        axes=(Axis(0, "warmth", "warm", "cold"), Axis(1, "axis 1", "more", "less")),
        correlations=[0.83, 0.0],
        chosen=FittedPrior(
            GaussianPrior(Posterior(np.array([0.3, 0.0]), np.eye(SIZE))), {"gaussian": (0.6521, 0.0034)}, (0.017, 0.002)
        ),
        response=ResponseModel(0.7, 0.02),
        certainty_curve=CertaintyCurve.identity(),
        certainties=[Certainty(5, 0.41, 0.43)],
        evidence=Evidence(SCORES, SCORES, SCORES),
        others=None,
        calibrated_on=20,
        tested_on=0,
    )


@pytest.fixture
def published(fitted, tmp_path):
    model = tmp_path / "model"
    model.mkdir()
    (model / "model.safetensors").write_bytes(b"weights")
    (model / "tokenizer.json").write_text("{}")
    serving = Serving("tiny", model, np.ones((3, HIDDEN)), np.ones((5, 2, HIDDEN)))
    scale = PropertyScale(np.zeros(len(PROPERTIES)), np.ones(len(PROPERTIES)))
    out = tmp_path / "basis"
    artifact = publish_basis(fitted, out, serving, scale=scale, provenance={"seed": 3}, notes=["A note."])
    return artifact, (out / "CARD.md").read_text()


def test_the_artifact_serves_what_was_fitted(published, fitted):
    basis = published[0].basis
    assert basis.response == fitted.response
    np.testing.assert_allclose(basis.reference, np.ones((3, HIDDEN)) @ fitted.heads.T)


def test_candidate_sets_are_rewards_and_not_differences(published, fitted):
    expected = np.ones(HIDDEN) @ fitted.heads.T + fitted.offset
    np.testing.assert_allclose(published[0].basis.candidate_sets[0, 0], expected)


def test_the_provenance_names_the_method_with_its_settings(published):
    assert published[0].manifest["provenance"]["method"] == {"name": "pref", **vars(Pref(SIZE))}
    assert published[0].manifest["provenance"]["seed"] == 3


@pytest.mark.parametrize(
    "words",
    [
        "A note.",
        "| 0 | warmth | 0.83 | +0.30 | 1.00 |",
        "| gaussian | 0.6521 ± 0.0034 |",
        "saved 0.0170 ± 0.0020 nats",
        "tempering exponent 0.7, lapse 0.02",
        "| 5 | 0.410 | 0.430 |",
        "0.610 [0.500, 0.700]",
        "**Nobody was left to test on",
        "the calibration people, chose on these same prompts",
    ],
)
def test_the_card_says_what_was_measured(published, words):
    assert words in published[1]


def test_what_was_measured_is_not_warned_of(published):
    assert "left to calibrate on" not in published[1]


def test_warnings_are_part_of_the_provenance(published):
    assert len(published[0].manifest["provenance"]["warnings"]) == 1


def test_the_rank_is_that_of_the_basis(fitted):
    assert method_facts(replace(fitted, method=Pref(9)))["rank"] == SIZE


def test_the_same_comparisons_have_the_same_hash():
    assert data_sha256(ComparisonData.of([LINE, LINE])) == data_sha256(ComparisonData.of([LINE, LINE]))


@pytest.mark.parametrize(
    "change", [{"user_id": "u2"}, {"first": "Yes!"}, {"preferred": "tie"}, {"prompt": (Message("user", "Ho?"),)}]
)
def test_any_change_of_a_comparison_changes_the_hash(change):
    assert data_sha256(ComparisonData.of([replace(LINE, **change)])) != data_sha256(ComparisonData.of([LINE]))
