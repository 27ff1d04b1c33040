from dataclasses import replace

import numpy as np
import pytest

from app.errors import QuestionAlreadyAnswered, QuestionnaireComplete
from app.services.answer_question import GivenAnswer
from app.services.questionnaires import QuestionnaireState
from tests.fakes.world import World, nothing_written

pytestmark = pytest.mark.anyio


async def answer(world: World, state: QuestionnaireState, place: int, preferred: str = "first") -> QuestionnaireState:
    """The state after an answer to the question that stands at ``place`` among the open ones."""
    given = GivenAnswer(state.questions[place].id, preferred)  # type: ignore[arg-type]
    return await world.answer(state.questionnaire.id, given)


async def test_a_batch_asks_about_as_many_prompts_as_it_has_questions(world: World) -> None:
    state = await world.start("ada", 10, batch_size=6)
    assert len({question.pair.prompt_id for question in state.questions}) == 6


async def test_the_first_of_a_batch_is_the_question(world: World) -> None:
    state = await world.start("ada", 10, batch_size=3)
    assert state.question == state.questions[0] == state.questionnaire.questions[0]


async def test_a_batch_may_be_answered_in_any_order(world: World) -> None:
    state = await world.start("ada", 3, batch_size=3)
    for place in (2, 0, 0):
        state = await answer(world, state, place)
    assert (state.questionnaire.stop_reason, state.questionnaire.answered) == ("max_questions", 3)
    assert [item.question_id for item in world.database.rows.comparisons] == [
        state.questionnaire.questions[place].id for place in (2, 0, 1)
    ]


async def test_an_answer_leaves_the_others_of_its_batch_as_they_were(world: World) -> None:
    state = await world.start("ada", 10, batch_size=3)
    following = await answer(world, state, 1)
    assert following.questions == (state.questions[0], state.questions[2])


async def test_a_batch_that_is_used_up_is_followed_by_another_of_new_prompts(world: World) -> None:
    state = await world.start("ada", 10, batch_size=2)
    following = await answer(world, await answer(world, state, 0), 0)
    prompts = {question.pair.prompt_id for question in following.questionnaire.questions}
    assert (len(following.questions), len(prompts)) == (2, 4)


async def test_the_last_batch_has_only_the_questions_that_are_left(world: World) -> None:
    state = await world.start("ada", 5, batch_size=4)
    for _ in range(4):
        state = await answer(world, state, 0)
    assert (len(state.questions), state.expected_remaining) == (1, 1)


async def test_a_batch_beyond_all_prompts_asks_more_pairs_of_them(world: World) -> None:
    state = await world.start("ada", 20, batch_size=20)
    assert len({question.pair.number for question in state.questions}) == 20
    assert len({question.pair.prompt_id for question in state.questions}) == 12


async def test_a_batch_after_some_questions_has_their_prompts_last(world: World) -> None:
    asked = await world.answer_all(await world.start("ada", 5))
    seen = {question.pair.prompt_id for question in asked.questionnaire.questions}
    state = await world.start("ada", 12, batch_size=12)
    assert not seen & {question.pair.prompt_id for question in state.questions[:7]}
    assert {question.pair.prompt_id for question in state.questions[7:]} <= seen | {
        question.pair.prompt_id for question in state.questions[:7]
    }


async def test_the_one_prompt_that_is_new_is_asked_once_in_a_batch(world: World) -> None:
    await world.answer_all(await world.start("ada", 11))
    seen = {
        question.pair.prompt_id for item in world.database.rows.questionnaires.values() for question in item.questions
    }
    state = await world.start("ada", 4, batch_size=4)
    prompts = [question.pair.prompt_id for question in state.questions]
    assert prompts[0] not in seen
    assert len(set(prompts)) == 4


async def test_a_batch_is_not_filled_with_questions_that_tell_nothing(world: World) -> None:
    differences = np.zeros((6, 4))
    differences[:2] = 2.0 * np.eye(2, 4)
    pool = world.active.pool
    pairs = tuple(pool.pairs[10 * number] for number in range(6))
    state = await world.with_pool(replace(pool, pairs=pairs, differences=differences)).start("ada", 6, batch_size=6)
    assert len(state.questions) == 2


async def test_a_batch_of_which_no_question_tells_anything_is_not_asked(world: World) -> None:
    pool = world.active.pool
    dull = world.with_pool(replace(pool, differences=np.zeros_like(pool.differences)))
    state = await dull.start("ada", 6, batch_size=6)
    assert (state.questionnaire.stop_reason, state.questions) == ("low_information", ())


async def test_a_batch_is_as_large_as_the_pool_allows(world: World) -> None:
    small = world.with_pairs(3)
    state = await small.start("ada", 10, batch_size=8)
    assert len(state.questions) == 3
    assert (await small.answer_all(state)).questionnaire.stop_reason == "pool_exhausted"


async def test_a_target_that_is_reached_within_a_batch_leaves_its_other_questions_open(world: World) -> None:
    state = await answer(world, await world.start("ada", 12, batch_size=4, target_certainty=0.2), 0)
    assert state.certainty < 0.2
    reached = await answer(world, state, 0)
    assert reached.certainty >= 0.2
    assert (reached.questionnaire.status, reached.questions) == ("active", state.questions[1:])


async def test_a_target_that_is_reached_ends_the_questionnaire_after_its_batch(world: World) -> None:
    state = await world.answer_all(await world.start("ada", 12, batch_size=4, target_certainty=0.2))
    assert (state.questionnaire.stop_reason, state.questionnaire.answered) == ("target_certainty", 4)


async def test_the_same_answer_again_within_a_batch_changes_nothing(world: World) -> None:
    state = await world.start("ada", 10, batch_size=3)
    following = await answer(world, state, 1)
    with nothing_written(world):
        assert await answer(world, state, 1) == following


async def test_another_answer_within_a_batch_is_a_conflict(world: World) -> None:
    state = await world.start("ada", 10, batch_size=3)
    await answer(world, state, 1)
    with nothing_written(world), pytest.raises(QuestionAlreadyAnswered):
        await answer(world, state, 1, "second")


async def test_finishing_takes_back_the_questions_that_are_open(world: World) -> None:
    state = await world.start("ada", 10, batch_size=3)
    finished = await world.finish(state.questionnaire.id)
    assert (finished.question, finished.questions) == (None, ())
    with nothing_written(world), pytest.raises(QuestionnaireComplete):
        await answer(world, state, 0)
