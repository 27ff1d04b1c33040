from dataclasses import replace

import numpy as np
import pytest

from app.entities import QuestionPool
from app.preferences.selection import RULES
from tests.fakes.world import World

pytestmark = pytest.mark.anyio


def pool_of(world: World, places: list[int], differences: np.ndarray) -> QuestionPool:
    """The pairs at ``places`` of the pool, renumbered, with other differences."""
    pairs = tuple(replace(world.active.pool.pairs[place], number=number) for number, place in enumerate(places))
    return replace(world.active.pool, pairs=pairs, differences=differences)


@pytest.mark.parametrize("rule", RULES)
async def test_every_rule_fills_a_questionnaire(world: World, rule: str) -> None:
    chosen = world.with_pool(world.active.pool, rule=rule)
    state = await chosen.answer_all(await chosen.start("ada", 4))
    assert len({question.pair.prompt_id for question in state.questionnaire.questions}) == 4


async def test_rules_ask_in_different_orders(world: World) -> None:
    first = {}
    for rule in ("expected_information", "v_optimal"):
        state = await world.with_pool(world.active.pool, rule=rule).start("ada", 1)
        await world.delete_user("ada")
        world = await World.create()
        assert state.question is not None
        first[rule] = state.question.pair.number
    assert len(set(first.values())) == 2


async def test_almost_the_same_question_comes_last(world: World) -> None:
    row = np.array([2.0, 1.0, 0.0, 0.0])
    differences = np.stack([row, -1.01 * row, np.array([0.0, 0.0, 0.7, 0.0])])
    twins = world.with_pool(pool_of(world, [0, 10, 20], differences))
    state = await twins.answer_all(await twins.start("ada", 3))
    asked = [question.pair.number for question in state.questionnaire.questions]
    assert (asked[1], sorted(asked)) == (2, [0, 1, 2])


async def test_another_pair_of_an_old_prompt_comes_before_almost_the_same_question(world: World) -> None:
    row = np.array([2.0, 1.0, 0.0, 0.0])
    differences = np.stack([1.01 * row, np.array([0.0, 0.0, 0.7, 0.0]), row])
    twins = world.with_pool(pool_of(world, [0, 1, 20], differences))
    state = await twins.answer_all(await twins.start("ada", 3))
    assert [question.pair.number for question in state.questionnaire.questions] == [0, 1, 2]


async def test_a_question_that_the_pool_no_longer_has_still_counts_as_asked(world: World) -> None:
    state = await world.answer_all(await world.start("ada", 1))
    [asked] = state.questionnaire.questions
    assert asked.pair.number is not None
    others = [place for place in (0, 15, 30, 45, 60) if place != asked.pair.number]
    rows = np.concatenate([[np.array(asked.differences)], 0.4 * world.active.pool.differences[others[1:]]])
    changed = world.with_pool(pool_of(world, others, rows))
    following = await changed.start("ada", 1)
    assert following.question is not None
    assert following.question.pair.number != 0


async def test_a_topic_that_the_pool_no_longer_has_leaves_nothing_to_ask(world: World) -> None:
    state = await world.start("ada", 5, topic="work")
    renamed = tuple(replace(pair, topic="play") for pair in world.active.pool.pairs)
    changed = world.with_pool(replace(world.active.pool, pairs=renamed))
    ended = await changed.answer_all(state)
    assert (ended.questionnaire.answered, ended.questionnaire.stop_reason) == (1, "pool_exhausted")
