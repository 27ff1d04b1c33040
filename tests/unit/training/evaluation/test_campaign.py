import json
from dataclasses import replace

import pytest

from app.training.evaluation.attune_method import AttuneMethod, Options
from app.training.evaluation.campaign import POPULATION, run_campaign
from app.training.evaluation.report import content, markdown, plot, write_json
from tests.unit.training.evaluation.small import RememberingMethod, draw_problem


def draw(seed):
    return draw_problem(seed, people=6, training_people=16, counts=(0, 2, 8))


@pytest.fixture(scope="module")
def steps():
    return []


@pytest.fixture(scope="module")
def campaign(steps):
    attune = AttuneMethod(options=Options(family="gaussian", calibrated=False))
    return run_campaign("small", draw, (0, 1), [attune, RememberingMethod()], progress=steps.append)


def test_every_method_meets_the_same_people(campaign):
    names = [[(one.seed, one.name) for one in records] for records in campaign.methods.values()]
    assert names[0] == names[1]
    assert len(names[0]) == 12


def test_progress_is_told_after_every_method_and_seed(campaign, steps):
    assert len(steps) == 4


def test_replay_order_and_sides_hold(campaign):
    assert campaign.checks.replayed_identically
    assert campaign.checks.order_ignored
    assert campaign.checks.sides_mirrored


def test_before_any_answer_nothing_is_gained_over_the_population(campaign):
    assert campaign.difference("attune", POPULATION, "accuracy", 0).high == 0.0


def test_swapped_people_do_worse(campaign):
    assert campaign.difference("swapped people", "attune", "accuracy", 8).mean < 0.0


def test_the_json_holds_every_figure_of_the_schema(campaign, tmp_path):
    write_json("small", [campaign], tmp_path / "small.json")
    found = json.loads((tmp_path / "small.json").read_text())
    assert {"name", "seeds", "counts", "methods", "paired", "controls", "gates"} <= set(found)
    assert set(found["methods"]["attune"]["auc"]["8"]) == {"mean", "low", "high"}
    assert set(found["methods"]["attune"]) >= {"auc", "accuracy", "log_loss", "ece"}


def test_several_campaigns_are_cells_of_one_file(campaign, tmp_path):
    write_json("both", [campaign, campaign], tmp_path / "both.json")
    assert set(json.loads((tmp_path / "both.json").read_text())) == {"name", "seeds", "cells", "gates"}


def test_the_table_names_every_method_and_gate(campaign):
    shown = markdown(campaign)
    assert all(name in shown for name in ("attune", "remembering", "G1", "G8"))


def test_the_plot_is_written(campaign, tmp_path):
    plot(campaign, tmp_path / "plots" / "small.png")
    assert (tmp_path / "plots" / "small.png").read_bytes().startswith(b"\x89PNG")


def test_the_same_people_held_out_by_two_seeds_are_counted_once():
    people = draw_problem(0, people=6).people
    campaign = run_campaign(
        "small",
        lambda seed: replace(draw(seed), people=people),
        (0, 1),
        [RememberingMethod()],
        controls=False,
        progress=lambda step: None,
    )
    found = content(campaign)
    assert (found["people"], found["times_held_out"]) == (6, 12)


def test_test_users_who_were_left_out_are_told_and_written():
    told = []
    campaign = run_campaign(
        "small",
        lambda seed: replace(draw(seed), left_out=("ann", "bob")),
        (0,),
        [RememberingMethod()],
        controls=False,
        progress=told.append,
    )
    assert told[0] == "small, seed 0: 2 of 8 test users have too few answers: ann, bob."
    assert content(campaign)["left_out"] == {"0": ["ann", "bob"]}
