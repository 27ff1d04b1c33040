import numpy as np
import pytest

from app.training.evaluation.run import Record
from app.training.evaluation.scores import Bootstrap, binned, certainty_bins, per_person
from app.training.metrics import calibration_error

RNG = np.random.default_rng(0)


def records(people=30, tests=20):
    found = []
    for number in range(people):
        probabilities = RNG.random(tests)
        labels = (RNG.random(tests) < probabilities) * 1.0
        told = float(np.abs(2 * probabilities - 1).mean())
        found.append(Record(number % 2, f"p{number}", labels, probabilities={0: probabilities}, told={0: told}))
    return found


@pytest.fixture
def bootstrap():
    return Bootstrap.of([f"p{number}" for number in range(30)], np.random.default_rng(1), draws=2000)


def test_as_many_people_are_drawn_as_there_are(bootstrap):
    assert (bootstrap.weights.sum(axis=1) == 30).all()


def test_all_records_of_a_person_come_and_go_together():
    drawn = Bootstrap.of(["a", "b", "a", "c"], np.random.default_rng(1), draws=50).weights
    assert np.array_equal(drawn[:, 0], drawn[:, 2])


def test_holding_the_same_people_out_twice_narrows_no_interval(bootstrap):
    values = RNG.standard_normal(30)
    once, names = bootstrap.mean(values), [f"p{number}" for number in range(30)]
    twice = Bootstrap.of([*names, *names], np.random.default_rng(1), draws=2000).mean(np.tile(values, 2))
    assert twice.high - twice.low == pytest.approx(once.high - once.low, rel=0.05)


def test_the_interval_is_as_wide_as_the_standard_error_says(bootstrap):
    values = RNG.standard_normal(30)
    found = bootstrap.mean(values)
    error = values.std() / np.sqrt(30)
    assert found.mean == pytest.approx(values.mean())
    assert found.high - found.low == pytest.approx(2 * 1.96 * error, rel=0.2)


def test_people_without_a_value_are_left_out(bootstrap):
    values = np.where(np.arange(30) < 20, 1.0, np.nan)
    assert bootstrap.mean(values) == type(bootstrap.mean(values))(1.0, 1.0, 1.0)


def test_nobody_with_a_value_gives_no_number(bootstrap):
    assert np.isnan(bootstrap.mean(np.full(30, np.nan)).mean)


def test_a_paired_difference_is_narrower_than_either_side(bootstrap):
    values = RNG.standard_normal(30)
    noise = 0.01 * RNG.standard_normal(30)
    difference, alone = bootstrap.mean((values + noise) - values), bootstrap.mean(values)
    assert difference.high - difference.low < 0.1 * (alone.high - alone.low)


def test_pooled_calibration_error_is_that_of_all_choices(bootstrap):
    people = records()
    probabilities, labels = (
        np.concatenate(parts) for parts in zip(*((p.probabilities[0], p.labels) for p in people), strict=True)
    )
    found = bootstrap.calibration_error(binned(people, 0))
    assert found.mean == pytest.approx(calibration_error(probabilities, labels))


def test_the_interval_of_the_calibration_error_lies_around_it(bootstrap):
    found = bootstrap.calibration_error(binned(records(), 0))
    assert found.low < found.mean < found.high


def test_a_person_with_fewer_answers_has_no_score():
    assert np.isnan(per_person(records(3), 5, "accuracy")).all()


def test_certainty_bins_cover_everyone_once():
    people = records()
    assert sum(one.stages for one in certainty_bins(people)) == len(people)
