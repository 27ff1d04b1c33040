"""The harness against the scripted engine, whose rewards the simulated people truly share."""

import asyncio
import json

import numpy as np
import pytest

from app.engines import scripted_basis
from app.errors import InvalidInput
from app.generation.scripted import ScriptedEngine
from app.generation.scripted_texts import rewards_of
from app.training.frontier.arms import BEST, BLOCK, BOTH, EARLY, OFF, TOKEN, Cell, matching_cells, standard_cells
from app.training.frontier.draws import Sampling
from app.training.frontier.figures import Fluency, points, rows, targets
from app.training.frontier.measure import Frontier, Measured, Sizes
from app.training.frontier.people import OfflineRegistry, get_to_know, wishes
from app.training.frontier.report import markdown, plot, to_json

SIZE, PEOPLE = 4, 16
ARMS = (OFF, *(BEST[n] for n in (4, 8, 16)), EARLY[2], BLOCK[1], TOKEN[1.0], BOTH[1.0])
CELLS = (
    *(Cell(arm) for arm in ARMS),
    *(Cell(arm, known) for known in ("full", "swapped", "reversed") for arm in (BEST[16], TOKEN[1.0])),
)
PROMPTS = [f"What about number {number}?" for number in range(12)]
SIZES = Sizes(prompts=10, each=6, others=4)


class TrueTastes:
    """People whose rewards are exactly linear in the scripted engine's basis rewards."""

    def __init__(self) -> None:
        self.tastes = 2.0 * np.random.default_rng(3).standard_normal((PEOPLE, SIZE))

    def rewards(self, texts):
        return self.tastes @ np.array([rewards_of(text, SIZE) for text in texts]).T


async def measure(**engine_options):
    engine = ScriptedEngine(size=SIZE, queue_size=10_000, max_rows=64, **engine_options)
    active = await scripted_basis(engine)
    registry = OfflineRegistry(active.basis, active.pool)
    people = get_to_know(registry, TrueTastes(), PEOPLE, questions=10, rule="v_optimal", seed=0)
    measured = Measured()
    frontier = Frontier(
        engine, people, TrueTastes(), PROMPTS, active.basis.prior.population, Sampling(max_tokens=40), SIZES
    )
    await frontier.run(CELLS, measured, lambda *_: None)
    return measured, people, engine


@pytest.fixture(scope="module")
def ran():
    return asyncio.run(measure())


@pytest.fixture(scope="module")
def found(ran):
    return {row.cell.name: row for row in rows(ran[0], dict.fromkeys(ran[0].cells, Fluency(-1.0, 0.0)))}


def test_a_plain_answer_is_as_good_as_another_plain_answer(found):
    assert found["off"].win_rate.low < 0.5 < found["off"].win_rate.high


def test_more_candidates_win_more_often(found):
    levels = [found[name].win_rate.mean for name in ("off", "best of 4", "best of 16")]
    assert levels == sorted(levels)
    assert found["best of 16"].win_rate.low > 0.6


@pytest.mark.parametrize("arm", ["best of 16", "token-level, strength 1"])
def test_another_persons_answers_lose_the_gain(found, arm):
    assert found[f"{arm} / swapped"].win_rate.high < found[arm].win_rate.low


@pytest.mark.parametrize("arm", ["best of 16", "token-level, strength 1"])
def test_reversed_coefficients_do_worse_than_a_plain_answer(found, arm):
    assert found[f"{arm} / reversed"].win_rate.high < 0.5


def test_knowing_the_taste_fully_does_no_harm(found):
    assert found["best of 16 / full"].win_rate.mean >= found["best of 16"].win_rate.mean


def test_best_of_n_costs_all_its_candidates(ran):
    measured = ran[0]
    assert np.mean(measured.cells["best of 16"].generated) > 10 * np.mean(measured.cells["off"].generated)


def test_an_answer_without_choice_generates_just_its_own_tokens(ran):
    one = ran[0].cells["off"]
    assert one.generated == one.lengths


def test_stopping_hopeless_candidates_generates_less_and_serves_whole_ones(ran):
    early, whole = ran[0].cells[EARLY[2].name], ran[0].cells["best of 16"]
    assert sum(early.generated) < sum(whole.generated)
    assert min(early.lengths) >= 6


def test_block_wise_guidance_pays_for_every_continuation(ran):
    one = ran[0].cells[BLOCK[1].name]
    assert one.generated == [4 * length for length in one.lengths]


def test_best_of_16_gains_one_unit_of_its_own_reward(found):
    assert found["best of 16"].reward.mean == pytest.approx(1.0)


def test_the_same_seed_gives_the_same_figures(ran):
    again = asyncio.run(measure())[0]
    assert {name: one.wins for name, one in again.cells.items()} == {n: one.wins for n, one in ran[0].cells.items()}


def test_ways_that_the_engine_cannot_go_are_left_out_and_named():
    measured = asyncio.run(measure(steering=frozenset()))[0]
    assert TOKEN[1.0].name not in measured.cells
    assert measured.left_out[TOKEN[1.0].name] == "the engine cannot do token"


def test_answers_bring_the_coefficients_nearer_to_the_taste(ran):
    people, tastes = ran[1], TrueTastes().tastes

    def likeness(coefficients):
        return np.mean([np.corrcoef(one, taste)[0, 1] for one, taste in zip(coefficients, tastes, strict=True)])

    known = likeness([person.answers.mean for person in people])
    assert 0.5 < known < likeness([person.full.mean for person in people])


def test_a_swapped_person_is_served_the_next_ones_wishes(ran):
    people = ran[1]
    assert wishes(people, PEOPLE - 1, "swapped").coefficients == pytest.approx(people[0].answers.mean)


def test_points_for_mode_auto_are_those_that_it_can_ask_for(found):
    names = [point.name for point in points(list(found.values()))]
    assert names == [cell.name for cell in CELLS if cell.known == "answers" and cell.arm.servable]


def test_targets_are_judged_on_what_was_measured(found):
    judged = targets(list(found.values()))
    assert len(judged) == 3
    assert all(one.by in found for one in judged)


def test_the_report_has_a_row_a_cell(found, ran, tmp_path):
    table = list(found.values())
    text = markdown(table, targets(table), ran[0])
    assert all(f"| {cell.arm.name} |" in text for cell in CELLS)
    figures = json.loads(to_json(table, targets(table), ran[0], {"prompts": "held-out"}))
    assert set(figures["rows"]) == {cell.name for cell in CELLS}
    plot(table, tmp_path / "frontier.png")
    assert (tmp_path / "frontier.png").stat().st_size > 1000


def test_too_few_prompts_are_refused():
    with pytest.raises(InvalidInput, match="too few"):
        Frontier(ScriptedEngine(), [], TrueTastes(), ["one"], None, Sampling(), SIZES)


def test_a_pattern_keeps_what_others_are_compared_with():
    names = {cell.name for cell in matching_cells("dropped below 0.05")}
    assert {"off", "best of 8", "best of 16"} < names
    assert "best of 64" not in names


def test_names_of_cells_are_unique():
    assert len({cell.name for cell in standard_cells()}) == len(standard_cells())
