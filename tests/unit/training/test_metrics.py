import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.training.metrics import accuracy, auc, calibration_error, interval


def test_a_tie_in_the_prediction_counts_half():
    assert accuracy(np.array([0.5, 0.9]), np.array([1.0, 1.0])) == 0.75


def test_ties_in_the_labels_are_left_out_of_accuracy():
    assert accuracy(np.array([0.9, 0.9]), np.array([1.0, 0.5])) == 1.0


@given(st.lists(st.tuples(st.sampled_from([0.1, 0.3, 0.5, 0.8]), st.booleans()), min_size=2, max_size=30))
def test_auc_is_the_share_of_pairs_in_the_right_order(rows):
    scores, labels = np.array([s for s, _ in rows]), np.array([float(y) for _, y in rows])
    positive, negative = scores[labels == 1], scores[labels == 0]
    if not len(positive) or not len(negative):
        assert np.isnan(auc(scores, labels))
        return
    order = np.sign(positive[:, None] - negative[None, :])
    assert auc(scores, labels) == pytest.approx(((order + 1) / 2).mean())


def test_calibrated_predictions_have_a_small_calibration_error():
    rng = np.random.default_rng(0)
    p = rng.random(20000)
    assert calibration_error(p, (rng.random(20000) < p).astype(float)) < 0.02


def test_overconfident_predictions_have_a_large_calibration_error():
    rng = np.random.default_rng(0)
    assert calibration_error(np.full(5000, 0.95), (rng.random(5000) < 0.6).astype(float)) > 0.3


def test_the_interval_covers_the_mean_of_the_people():
    found = interval(np.random.default_rng(0).normal(0.7, 0.1, 50), np.random.default_rng(1))
    assert found.low < found.mean < found.high
    assert found.high - found.low < 0.08
