from dataclasses import replace

import numpy as np
import pytest

from app.errors import (
    EngineOverloaded,
    QuestionAlreadyAnswered,
    QuestionnaireComplete,
    QuestionnaireNotFound,
    QuestionNotFound,
    UnknownTopic,
    UserNotFound,
)
from app.services.answer_question import GivenAnswer
from app.services.questionnaires import QuestionnaireState
from tests.fakes.world import World, nothing_written

pytestmark = pytest.mark.anyio


async def answer(world: World, state: QuestionnaireState, preferred: str) -> QuestionnaireState:
    assert state.question is not None
    return await world.answer(state.questionnaire.id, GivenAnswer(state.question.id, preferred))  # type: ignore[arg-type]


async def test_a_questionnaire_starts_with_the_most_informative_question(world: World) -> None:
    state = await world.start("ada", 10)
    others = [await world.start("ada", 10) for _ in range(3)]
    assert state.question is not None
    for other in others:
        assert other.question is not None
        assert other.question.expected_information_bits <= state.question.expected_information_bits


async def test_a_questionnaire_for_nobody_is_refused(world: World) -> None:
    with pytest.raises(UserNotFound):
        await world.start("nobody", 10)


async def test_a_topic_without_questions_is_refused_and_the_known_ones_are_named(world: World) -> None:
    with pytest.raises(UnknownTopic, match="free time, home, people, work"):
        await world.start("ada", 10, topic="astrology")


async def test_a_topic_limits_the_questions_to_itself(world: World) -> None:
    state = await world.answer_all(await world.start("ada", 5, topic="work"))
    assert {question.pair.topic for question in state.questionnaire.questions} == {"work"}


async def test_looking_twice_shows_the_same_question(world: World) -> None:
    state = await world.start("ada", 10)
    assert (await world.look(state.questionnaire.id)).question == state.question


async def test_an_answer_brings_another_question(world: World) -> None:
    state = await world.start("ada", 10)
    following = await answer(world, state, "first")
    assert following.question is not None
    assert following.question != state.question
    assert following.questionnaire.answered == 1


async def test_no_prompt_is_asked_twice_while_others_remain(world: World) -> None:
    state = await world.answer_all(await world.start("ada", 12))
    prompts = [question.pair.prompt_id for question in state.questionnaire.questions]
    assert len(set(prompts)) == len(prompts) == 12


async def test_prompts_of_earlier_questionnaires_are_not_asked_again_either(world: World) -> None:
    first = await world.answer_all(await world.start("ada", 6))
    second = await world.answer_all(await world.start("ada", 6))
    prompts = [question.pair.prompt_id for state in (first, second) for question in state.questionnaire.questions]
    assert len(set(prompts)) == 12


async def test_when_all_prompts_were_asked_other_pairs_of_them_follow(world: World) -> None:
    state = await world.answer_all(await world.start("ada", 14))
    pairs = [question.pair.number for question in state.questionnaire.questions]
    assert len(set(pairs)) == 14


async def test_it_ends_after_the_most_questions_allowed(world: World) -> None:
    state = await world.answer_all(await world.start("ada", 2))
    assert (state.questionnaire.stop_reason, state.questionnaire.answered) == ("max_questions", 2)


async def test_it_ends_when_the_pool_has_nothing_left(world: World) -> None:
    small = world.with_pairs(2)
    state = await small.answer_all(await small.start("ada", 10))
    assert (state.questionnaire.stop_reason, state.questionnaire.answered) == ("pool_exhausted", 2)


async def test_it_ends_when_no_question_would_tell_anything(world: World) -> None:
    pool = replace(world.active.pool, differences=np.zeros_like(world.active.pool.differences))
    dull = world.with_pool(pool)
    state = await dull.start("ada", 10)
    assert (state.questionnaire.stop_reason, state.question) == ("low_information", None)


async def test_it_ends_when_the_target_certainty_is_reached(world: World) -> None:
    state = await world.answer_all(await world.start("ada", 12, target_certainty=0.25))
    assert state.questionnaire.stop_reason == "target_certainty"
    assert state.certainty >= 0.25


def knowing(world: World, minimum_change: float) -> World:
    """The same world with sets of responses as it serves them, whose best hardly anybody would disagree on."""
    sets = np.zeros((3, 2, 4))
    sets[:, 0] = 20.0 * world.active.basis.prior.population.mean
    basis = replace(world.active.basis, candidate_sets=sets)
    return World(
        world.database, world.engine, replace(world.active, basis=basis), world.clock, minimum_change=minimum_change
    )


@pytest.mark.parametrize("source", ["pool", "generated", "auto"])
async def test_it_ends_when_no_answer_would_change_what_is_served(world: World, source: str) -> None:
    state = await knowing(world, minimum_change=0.5).start("ada", 10, source=source)
    assert (state.questionnaire.stop_reason, state.question) == ("low_information", None)


async def test_it_goes_on_where_answers_could_change_what_is_served(world: World) -> None:
    state = await knowing(world, minimum_change=0.05).start("ada", 10)
    assert state.question is not None


async def test_without_a_limit_it_goes_on_whatever_could_change(world: World) -> None:
    state = await knowing(world, minimum_change=0.0).start("ada", 10)
    assert state.question is not None


async def test_the_end_is_told_once(world: World) -> None:
    state = await world.answer_all(await world.start("ada", 1))
    assert state.just_completed
    assert not (await world.look(state.questionnaire.id)).just_completed


async def test_progress_counts_down_to_the_end(world: World) -> None:
    state = await world.start("ada", 3)
    remaining = [state.expected_remaining]
    while state.question is not None:
        state = await answer(world, state, "second")
        remaining.append(state.expected_remaining)
    assert remaining == [3, 2, 1, 0]


async def test_the_side_of_each_response_is_random_and_recorded(world: World) -> None:
    state = await world.answer_all(await world.start("ada", 12))
    assert {question.swapped for question in state.questionnaire.questions} == {True, False}


@pytest.mark.parametrize("seed", [0, 1, 2, 3])
async def test_differences_follow_the_order_in_which_the_responses_were_shown(seed: int) -> None:
    world = await World.create(seed)
    await answer(world, await world.start("ada", 1), "first")
    [stored] = world.database.rows.comparisons
    rewards = await world.engine.basis_rewards(stored.prompt, [stored.first, stored.second])
    np.testing.assert_allclose(stored.differences, rewards[0] - rewards[1])


async def test_a_skip_counts_as_an_answer_but_is_no_comparison(world: World) -> None:
    state = await answer(world, await world.start("ada", 10), "skip")
    assert state.questionnaire.answered == 1
    assert not world.database.rows.comparisons


async def test_the_same_answer_again_changes_nothing(world: World) -> None:
    state = await world.start("ada", 10)
    following = await answer(world, state, "first")
    with nothing_written(world):
        assert (await answer(world, state, "first")).question == following.question


async def test_another_answer_to_an_answered_question_is_a_conflict(world: World) -> None:
    state = await world.start("ada", 10)
    await answer(world, state, "first")
    with nothing_written(world), pytest.raises(QuestionAlreadyAnswered, match="'first'"):
        await answer(world, state, "second")


async def test_a_question_of_another_questionnaire_is_not_found(world: World) -> None:
    first, second = await world.start("ada", 10), await world.start("ada", 10)
    assert second.question is not None
    with nothing_written(world), pytest.raises(QuestionNotFound):
        await world.answer(first.questionnaire.id, GivenAnswer(second.question.id, "first"))


async def test_an_unknown_questionnaire_is_not_found(world: World) -> None:
    with pytest.raises(QuestionnaireNotFound):
        await world.look("qnr_none")


async def test_finishing_early_keeps_what_was_answered(world: World) -> None:
    state = await answer(world, await world.start("ada", 10), "first")
    finished = await world.finish(state.questionnaire.id)
    assert (finished.questionnaire.stop_reason, finished.question) == ("finished_by_caller", None)
    assert len(world.database.rows.comparisons) == 1


async def test_finishing_twice_changes_nothing(world: World) -> None:
    state = await world.answer_all(await world.start("ada", 1))
    again = await world.finish(state.questionnaire.id)
    assert (again.questionnaire.stop_reason, again.just_completed) == ("max_questions", False)


async def test_an_answer_after_the_end_is_a_conflict(world: World) -> None:
    state = await world.start("ada", 10)
    await world.finish(state.questionnaire.id)
    with nothing_written(world), pytest.raises(QuestionnaireComplete):
        await answer(world, state, "first")


async def test_a_question_that_left_the_pool_is_scored_as_it_was_when_asked(world: World) -> None:
    state = await world.start("ada", 10)
    before = world.engine.requests
    await answer(world.with_pairs(0), state, "first")
    [stored] = world.database.rows.comparisons
    assert (len(stored.differences), world.engine.requests) == (4, before)


async def test_a_question_from_before_a_new_basis_is_scored_by_the_engine(world: World) -> None:
    state = await world.start("ada", 10)
    newer = world.on_another_basis()
    await answer(newer, state, "first")
    [stored] = newer.database.rows.comparisons
    assert (stored.basis_version, newer.engine.requests) == ("newer", 1)


async def test_a_repeated_answer_does_not_ask_the_engine(world: World) -> None:
    state = await world.start("ada", 10)
    await answer(world, state, "first")
    newer = world.on_another_basis()
    newer.engine.fail_next(EngineOverloaded(3))
    assert (await answer(newer, state, "first")).questionnaire.answered == 1


async def test_a_skip_does_not_ask_the_engine(world: World) -> None:
    state = await world.start("ada", 10)
    newer = world.on_another_basis()
    newer.engine.fail_next(EngineOverloaded(3))
    assert (await answer(newer, state, "skip")).questionnaire.answered == 1


async def too_long_to_score(world: World) -> World:
    """After an answer to a question that has left the pool, and whose texts the active model cannot take."""
    state = await world.start("ada", 10)
    newer = world.on_another_basis().with_pairs(0)
    newer.engine.context = 2
    await answer(newer, state, "first")
    return newer


async def test_an_answer_that_cannot_be_scored_is_kept_without_effect(world: World) -> None:
    newer = await too_long_to_score(world)
    [stored] = newer.database.rows.comparisons
    estimate = await newer.estimate("ada")
    assert (stored.preferred, stored.differences, estimate.comparisons) == ("first", (), 1)
    np.testing.assert_array_equal(estimate.belief.mean, newer.active.basis.prior.population.mean)


async def test_an_answer_that_could_not_be_scored_counts_under_no_basis_but_where_it_can_be(world: World) -> None:
    newer = await too_long_to_score(world)
    estimate = await world.on_another_basis("newest").estimate("ada")
    [stored] = newer.database.rows.comparisons
    assert (stored.basis_version, len(stored.differences)) == ("newest", 4)
    assert (estimate.belief.mean != world.active.basis.prior.population.mean).any()


async def test_going_back_to_the_basis_of_the_question_scores_what_could_not_be_scored(world: World) -> None:
    await too_long_to_score(world)
    world.engine.context = 512
    await world.estimate("ada")
    [stored] = world.database.rows.comparisons
    assert (stored.basis_version, len(stored.differences)) == ("scripted", 4)
