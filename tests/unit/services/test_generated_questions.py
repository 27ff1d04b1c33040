import asyncio
from dataclasses import replace

import numpy as np
import pytest

from app.entities import Message
from app.errors import EngineOverloaded, NonFiniteReward, PromptTooLong
from app.services.answer_question import GivenAnswer
from app.services.questionnaires import QuestionnaireState
from tests.fakes.world import World, nothing_written

pytestmark = pytest.mark.anyio


async def answer(world: World, state: QuestionnaireState, preferred: str = "first") -> QuestionnaireState:
    assert state.question is not None
    return await world.answer(state.questionnaire.id, GivenAnswer(state.question.id, preferred))  # type: ignore[arg-type]


def dull(world: World) -> World:
    """The same world with a pool whose pairs tell nothing."""
    pool = world.active.pool
    return world.with_pool(replace(pool, differences=np.zeros_like(pool.differences)))


async def test_a_generated_question_is_of_no_pair_of_the_pool(world: World) -> None:
    state = await world.start("ada", 5, source="generated")
    assert state.question is not None
    assert state.question.pair.number is None
    assert state.question.pair.key not in world.active.pool.rows


async def test_a_generated_question_is_learned_from_by_the_rewards_of_its_texts(world: World) -> None:
    await answer(world, await world.start("ada", 5, source="generated"))
    [stored] = world.database.rows.comparisons
    rewards = await world.engine.basis_rewards(stored.prompt, [stored.first, stored.second])
    np.testing.assert_allclose(stored.differences, rewards[0] - rewards[1])


async def test_rewards_seen_while_decoding_are_not_what_is_kept(world: World) -> None:
    world.engine.decoding_error = 3.0
    state = await world.start("ada", 5, source="generated")
    assert state.question is not None
    pair = state.question.pair
    rewards = await world.engine.basis_rewards((Message("user", pair.prompt),), [pair.first, pair.second])
    np.testing.assert_allclose(state.question.differences, rewards[0] - rewards[1])


async def test_generated_questions_use_every_prompt_of_the_topic_before_any_again(world: World) -> None:
    state = await world.answer_all(await world.start("ada", 4, source="generated", topic="work"))
    prompts = [question.pair.prompt_id for question in state.questionnaire.questions]
    known = {pair.prompt_id for pair in world.active.pool.pairs if pair.topic == "work"}
    assert (set(prompts[:3]), len(prompts)) == (known, 4)


async def test_a_caller_s_prompts_take_the_place_of_the_pool_s(world: World) -> None:
    prompts = ("How do I fold a map?", "What is rain?")
    state = await world.answer_all(await world.start("ada", 3, source="generated", prompts=prompts))
    asked = [question.pair.prompt for question in state.questionnaire.questions]
    assert (set(asked[:2]), len(asked)) == (set(prompts), 3)


async def test_a_generated_batch_has_a_prompt_for_every_question(world: World) -> None:
    state = await world.start("ada", 10, source="generated", batch_size=4)
    assert len({question.pair.prompt_id for question in state.questions}) == 4


async def test_a_batch_that_the_engine_leaves_unfinished_is_asked_as_far_as_it_is(world: World) -> None:
    world.engine.fail_after(4, EngineOverloaded(3))
    state = await world.start("ada", 10, source="generated", batch_size=4)
    assert len(state.questions) == 2


async def test_identical_texts_are_never_shown(world: World) -> None:
    world.engine.texts = ("yes", " yes", "yes ", "no thank you")
    state = await world.start("ada", 1, source="generated")
    assert state.question is not None
    assert {state.question.first, state.question.second} == {"yes", "no thank you"}


@pytest.mark.parametrize("texts", [("yes",), ("yes", " "), ("calm day", "day calm")], ids=["same", "blank", "as good"])
async def test_without_two_texts_that_differ_there_is_no_question(world: World, texts: tuple[str, ...]) -> None:
    world.engine.texts = texts
    state = await world.start("ada", 5, source="generated")
    assert (state.questionnaire.stop_reason, state.question) == ("low_information", None)


async def test_a_pair_of_texts_is_not_asked_twice(world: World) -> None:
    world.engine.texts = ("yes", "no thank you")
    state = await world.answer_all(await world.start("ada", 5, source="generated", prompts=("Tea?",)))
    assert (state.questionnaire.answered, state.questionnaire.stop_reason) == (1, "low_information")


async def test_a_generated_questionnaire_ends_after_the_most_questions_allowed(world: World) -> None:
    state = await world.answer_all(await world.start("ada", 2, source="generated"))
    assert (state.questionnaire.answered, state.questionnaire.stop_reason) == (2, "max_questions")


async def test_a_questionnaire_whose_first_question_cannot_be_written_is_not_stored(world: World) -> None:
    world.engine.fail_next(EngineOverloaded(3))
    with nothing_written(world), pytest.raises(EngineOverloaded):
        await world.start("ada", 5, source="generated")


async def without_its_next_question(world: World) -> QuestionnaireState:
    """The state before an answer that was stored while the engine was overloaded."""
    state = await world.start("ada", 5, source="generated")
    world.engine.fail_next(EngineOverloaded(3))
    with pytest.raises(EngineOverloaded):
        await answer(world, state)
    return state


async def test_an_answer_is_kept_where_the_next_question_cannot_be_written(world: World) -> None:
    state = await without_its_next_question(world)
    seen = await world.look(state.questionnaire.id)
    assert (seen.questionnaire.answered, seen.questionnaire.status, seen.question) == (1, "active", None)
    assert len(world.database.rows.comparisons) == 1


async def test_the_same_answer_again_asks_the_engine_again(world: World) -> None:
    state = await without_its_next_question(world)
    following = await answer(world, state)
    assert following.question is not None
    assert len(world.database.rows.comparisons) == 1


async def test_the_same_answer_at_once_brings_one_next_question(world: World) -> None:
    state = await without_its_next_question(world)
    states = await asyncio.gather(*(answer(world, state) for _ in range(4)))
    assert len({one.question.id for one in states if one.question}) == 1
    assert len((await world.look(state.questionnaire.id)).questionnaire.questions) == 2


async def test_a_questionnaire_without_its_next_question_can_be_finished(world: World) -> None:
    state = await without_its_next_question(world)
    assert (await world.finish(state.questionnaire.id)).questionnaire.stop_reason == "finished_by_caller"


async def test_auto_asks_the_pool_while_it_tells_something(world: World) -> None:
    before = world.engine.requests
    state = await world.answer_all(await world.start("ada", 3, source="auto"))
    assert all(question.pair.number is not None for question in state.questionnaire.questions)
    assert world.engine.requests == before


async def test_auto_asks_the_engine_when_the_pool_is_exhausted(world: World) -> None:
    small = world.with_pairs(2)
    state = await small.answer_all(await small.start("ada", 4, source="auto"))
    assert [question.pair.number is None for question in state.questionnaire.questions] == [False, False, True, True]


async def test_auto_asks_the_engine_when_the_pool_tells_nothing(world: World) -> None:
    state = await dull(world).start("ada", 4, source="auto")
    assert state.question is not None
    assert state.question.pair.number is None


@pytest.mark.parametrize("trouble", [EngineOverloaded(3), NonFiniteReward("A basis reward is not finite.")])
async def test_auto_ends_as_the_pool_would_when_the_engine_has_trouble(world: World, trouble: Exception) -> None:
    world.engine.fail_next(trouble)
    state = await dull(world).start("ada", 4, source="auto")
    assert state.questionnaire.stop_reason == "low_information"


async def test_auto_ends_as_the_pool_would_when_the_engine_writes_nothing_worth_asking(world: World) -> None:
    world.engine.texts = ("yes",)
    small = world.with_pairs(2)
    state = await small.answer_all(await small.start("ada", 4, source="auto"))
    assert (state.questionnaire.answered, state.questionnaire.stop_reason) == (2, "pool_exhausted")


async def test_prompts_that_are_all_too_long_are_refused_by_their_field(world: World) -> None:
    with nothing_written(world), pytest.raises(PromptTooLong) as caught:
        await world.start("ada", 4, source="generated", prompts=("word " * 600,))
    assert caught.value.field == "prompts.0"


async def test_a_prompt_that_is_too_long_is_left_out_where_there_are_others(world: World) -> None:
    state = await world.start("ada", 4, source="generated", prompts=("word " * 600, "Tea?"))
    assert state.question is not None
    assert state.question.pair.prompt == "Tea?"
