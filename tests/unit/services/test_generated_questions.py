import asyncio
from dataclasses import replace

import numpy as np
import pytest
from structlog.testing import capture_logs

from app.entities import Message
from app.errors import EngineOverloaded, EngineTimeout, NonFiniteReward, PromptTooLong, Unavailable
from app.services.answer_question import GivenAnswer
from app.services.questionnaires import QuestionnaireState
from app.services.record_comparisons import NewComparison
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


LONG = "word " * 600


async def test_prompts_that_are_too_long_cost_no_question(world: World) -> None:
    prompts = (*(f"{LONG}{number}" for number in range(3)), "Tea?", "Rain?", "Maps?")
    state = await world.answer_all(await world.start("ada", 9, source="generated", prompts=prompts))
    assert (state.questionnaire.answered, state.questionnaire.stop_reason) == (9, "max_questions")


async def test_a_prompt_with_something_to_tell_is_found_behind_any_number_of_dull_ones(world: World) -> None:
    world.engine.dull_prompts = frozenset(f"Dull {number}?" for number in range(20))
    prompts = (*sorted(world.engine.dull_prompts), "Tea?")
    state = await world.start("ada", 3, source="generated", prompts=prompts)
    assert state.question is not None
    assert state.question.pair.prompt == "Tea?"


async def test_a_prompt_that_is_sent_twice_is_asked_once_in_a_batch(world: World) -> None:
    world.engine.texts = ("yes", "no thank you")
    state = await world.start("ada", 4, source="generated", batch_size=4, prompts=("Tea?", "Tea? ", "Tea?"))
    assert len(state.questions) == 1


async def test_responses_are_as_long_as_fits_where_more_was_set(world: World) -> None:
    roomy = world.with_pool(world.active.pool, max_tokens=4096)
    state = await roomy.start("ada", 3, source="generated")
    assert state.question is not None


async def test_a_pool_whose_prompts_are_all_too_long_is_unavailable_and_logged(world: World) -> None:
    world.engine.context = 2
    with capture_logs() as logged, nothing_written(world), pytest.raises(Unavailable, match="No prompt of the pool"):
        await world.start("ada", 3, source="generated")
    assert [(entry["event"], entry["log_level"]) for entry in logged] == [("no_prompt_fits", "warning")]


async def test_what_was_written_when_time_is_up_is_asked(world: World) -> None:
    world.engine.stall_after = 4
    hasty = world.with_pool(world.active.pool, writing_seconds=0.05)
    assert len((await hasty.start("ada", 10, source="generated", batch_size=4)).questions) == 2


async def test_time_that_is_up_before_anything_was_written_is_a_timeout(world: World) -> None:
    world.engine.stall_after = 0
    hasty = world.with_pool(world.active.pool, writing_seconds=0.05)
    with nothing_written(world), pytest.raises(EngineTimeout):
        await hasty.start("ada", 10, source="generated")


async def test_a_questionnaire_without_its_next_question_can_be_continued(world: World) -> None:
    state = await without_its_next_question(world)
    following = await world.resume(state.questionnaire.id)
    assert (following.questionnaire.answered, len(following.questions)) == (1, 1)


async def test_continuing_changes_nothing_where_a_question_is_open(world: World) -> None:
    state = await world.start("ada", 5)
    with nothing_written(world):
        assert await world.resume(state.questionnaire.id) == state


async def test_continuing_changes_nothing_after_the_end(world: World) -> None:
    state = await world.answer_all(await world.start("ada", 1))
    with nothing_written(world):
        assert (await world.resume(state.questionnaire.id)).questionnaire == state.questionnaire


async def test_what_a_person_said_while_the_engine_wrote_counts(world: World) -> None:
    told = NewComparison("ada", (Message("user", "hello"),), "warm gentle evening", "quick plain list", "second")
    world.engine.meanwhile = lambda: world.record([told])
    state = await world.start("ada", 3, source="generated")
    assert state.certainty == (await world.look(state.questionnaire.id)).certainty


async def test_what_a_person_was_asked_while_the_engine_failed_is_not_asked_again(world: World) -> None:
    dull_pool = dull(world).active.pool
    small = world.with_pool(replace(dull_pool, pairs=dull_pool.pairs[:1], differences=dull_pool.differences[:1]))
    lively = world.with_pairs(1)
    world.engine.texts = ("yes",)
    world.engine.meanwhile = lambda: lively.start("ada", 1)
    state = await small.start("ada", 2, source="auto")
    assert state.questionnaire.stop_reason == "pool_exhausted"
