from dataclasses import replace

import numpy as np
import pytest

from app.training.evaluation.campaign import SHUFFLED_ANSWERS, SHUFFLED_EVERYTHING, SWAPPED, Campaign
from app.training.evaluation.checks import Checks
from app.training.evaluation.gates import judge
from app.training.evaluation.problem import Source
from app.training.evaluation.run import Record

PEOPLE, TESTS = 20, 100
GOOD = Checks(True, True, True, 0.5, 0.05, 1.0)


def records(accuracy, start=0.6):
    """People predicted right in a share of their choices that goes from ``start`` to ``accuracy``, and sure of it."""
    rng = np.random.default_rng(0)
    found = []
    for number in range(PEOPLE):
        labels = (rng.random(TESTS) < 0.5) * 1.0
        predictions = {}
        for count, level in ((0, start), (5, accuracy), (10, accuracy), (20, accuracy)):
            right = rng.permutation(TESTS) < round(level * TESTS)
            likelier = np.where(right, labels, 1.0 - labels)
            predictions[count] = np.where(likelier == 1.0, level, 1.0 - level)
        found.append(Record(0, f"p{number}", labels, [0], predictions, {0: 0.2}, [1e-4], [1e-4]))
    return found


@pytest.fixture
def campaign():
    return Campaign(
        "attributes",
        (0,),
        (0, 5, 10, 20),
        {"attune": records(0.8), "pref": records(0.65)},
        {SWAPPED: records(0.5), SHUFFLED_ANSWERS: records(0.55), SHUFFLED_EVERYTHING: records(0.6)},
        GOOD,
    )


def verdict(campaign, name):
    return {gate.name.split()[0]: gate.passed for gate in judge(campaign)}[name]


def test_a_good_campaign_passes_every_gate_that_applies(campaign):
    verdicts = {gate.name.split()[0]: gate.passed for gate in judge(campaign)}
    assert verdicts == {**dict.fromkeys(verdicts, True), "G4": None, "G9": None}


def test_a_lead_that_is_too_small_fails(campaign):
    campaign.methods["pref"] = records(0.79)
    assert verdict(campaign, "G1") is False


def test_without_its_baseline_a_lead_is_not_judged(campaign):
    del campaign.methods["pref"]
    assert verdict(campaign, "G1") is None


def test_falling_below_the_population_fails(campaign):
    campaign.methods["attune"] = records(0.55)
    assert verdict(campaign, "G2") is False


def test_over_confidence_fails(campaign):
    for one in campaign.methods["attune"]:
        one.probabilities[20] = np.where(one.probabilities[20] > 0.5, 0.999, 0.001)
    assert verdict(campaign, "G3") is False


def test_few_shots_are_judged_against_lore():
    cell = Campaign("alpha=0.1,K=5", (0,), (0, 1, 3, 5, 9), {"attune": records(0.8), "lore": records(0.7)})
    for one in (*cell.methods["attune"], *cell.methods["lore"]):
        one.probabilities |= dict.fromkeys((1, 3, 9), one.probabilities[5])
    assert verdict(cell, "G4") is True


def test_a_slow_choice_fails(campaign):
    campaign.checks = replace(GOOD, choice_of_10000_milliseconds=6.0)
    assert verdict(campaign, "G5") is False


def test_answers_whose_order_matters_fail(campaign):
    campaign.checks = replace(GOOD, order_ignored=False)
    assert verdict(campaign, "G6") is False


def test_people_swapped_without_loss_fail(campaign):
    campaign.controls[SWAPPED] = records(0.8)
    assert verdict(campaign, "G7") is False


def test_a_gain_from_shuffled_people_fails(campaign):
    campaign.controls[SHUFFLED_EVERYTHING] = records(0.7)
    assert verdict(campaign, "G7") is False


def test_a_side_that_is_always_preferred_fails(campaign):
    campaign.checks = replace(GOOD, first_share=0.9)
    assert verdict(campaign, "G8") is False


@pytest.mark.parametrize(("told", "passed"), [(0.79, True), (0.84, False)])
def test_certainty_around_four_fifths_must_come_true(campaign, told, passed):
    campaign.methods["attune"] = [replace(one, told={20: told}) for one in records(0.9)]
    assert verdict(campaign, "G9") is passed


def test_few_people_are_not_compared(campaign):
    for one in (campaign.methods, campaign.controls):
        one.update({name: people[:4] for name, people in one.items()})
    assert {name: verdict(campaign, name) for name in ("G1", "G2", "G7")} == {"G1": None, "G2": None, "G7": None}


def test_a_person_held_out_by_many_seeds_is_one_person(campaign):
    for one in (campaign.methods, campaign.controls):
        one.update({name: [replace(each, name="p") for each in people] for name, people in one.items()})
    assert verdict(campaign, "G7") is None


def test_a_count_that_nobody_reached_is_not_taken_for_the_lowest(campaign):
    for one in campaign.methods["attune"]:
        del one.probabilities[20]
    assert verdict(campaign, "G2") is True


def test_texts_that_are_read_differently_on_either_side_fail(campaign):
    campaign.checks = replace(GOOD, source=Source(first_share=0.5, sides_alike=False))
    assert verdict(campaign, "G8") is False


def test_where_the_winner_stood_as_recorded_is_reported(campaign):
    campaign.checks = replace(GOOD, source=Source(first_share=0.613, sides_alike=True))
    found = {gate.name.split()[0]: gate.found for gate in judge(campaign)}
    assert "before sides were drawn 0.613" in found["G8"]
