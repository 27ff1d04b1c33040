"""Callers who do the same thing at the same moment, against real databases."""

import asyncio

import pytest

from app.config import Settings
from app.engines import scripted_basis
from app.entities import Message
from app.errors import AttuneError, PreferencesChanged, QuestionAlreadyAnswered
from app.generation.scripted import ScriptedEngine
from app.main import build_services
from app.services.answer_question import GivenAnswer
from app.services.put_user import UserChanges
from app.services.record_comparisons import NewComparison
from app.services.start_questionnaire import QuestionnaireOptions
from app.storage.database import Database

pytestmark = pytest.mark.anyio


@pytest.fixture
async def services(database: Database):
    engine = ScriptedEngine()
    services = build_services(database, engine, await scripted_basis(engine), Settings())
    await services.put_user("ada", UserChanges(frozenset()))
    return services


async def outcomes(*calls) -> list[object]:
    return await asyncio.gather(*calls, return_exceptions=True)


async def test_two_different_answers_to_one_question_at_once_store_exactly_one(services) -> None:
    for _ in range(5):
        state = await services.start_questionnaire("ada", QuestionnaireOptions())
        answers = [GivenAnswer(state.question.id, preferred) for preferred in ("first", "second")]
        before = (await services.estimate_preferences("ada")).comparisons
        results = await outcomes(*(services.answer_question(state.questionnaire.id, given) for given in answers))
        assert sum(isinstance(result, QuestionAlreadyAnswered) for result in results) == 1, results
        assert (await services.estimate_preferences("ada")).comparisons == before + 1
        after = await services.get_questionnaire(state.questionnaire.id)
        assert len(after.questionnaire.questions) == 2


async def test_the_same_answer_many_times_at_once_is_one_answer(services) -> None:
    state = await services.start_questionnaire("ada", QuestionnaireOptions())
    given = GivenAnswer(state.question.id, "first")
    results = await outcomes(*(services.answer_question(state.questionnaire.id, given) for _ in range(6)))
    assert not [result for result in results if isinstance(result, AttuneError)]
    assert (await services.estimate_preferences("ada")).comparisons == 1


async def test_the_same_answer_at_once_has_one_question_of_the_engine_stored_once(services) -> None:
    state = await services.start_questionnaire("ada", QuestionnaireOptions(source="generated"))
    given = GivenAnswer(state.question.id, "first")
    results = await outcomes(*(services.answer_question(state.questionnaire.id, given) for _ in range(4)))
    assert not [result for result in results if isinstance(result, BaseException)], results
    after = await services.get_questionnaire(state.questionnaire.id)
    assert (len(after.questionnaire.questions), after.questionnaire.answered) == (2, 1)


async def test_all_answers_of_a_batch_at_once_are_kept_and_bring_one_more_batch(services) -> None:
    state = await services.start_questionnaire("ada", QuestionnaireOptions(batch_size=4))
    given = [GivenAnswer(question.id, "second") for question in state.questions]
    results = await outcomes(*(services.answer_question(state.questionnaire.id, one) for one in given))
    assert not [result for result in results if isinstance(result, BaseException)], results
    after = await services.get_questionnaire(state.questionnaire.id)
    assert (len(after.questionnaire.questions), after.questionnaire.answered) == (8, 4)


async def test_of_two_adjustments_of_one_state_only_one_is_made(services) -> None:
    version = await services.estimate_preferences.version("ada")
    results = await outcomes(*(services.adjust_preferences("ada", [(0, 1.0)], version) for _ in range(2)))
    assert sum(isinstance(result, PreferencesChanged) for result in results) == 1, results


async def test_answers_in_two_questionnaires_at_once_are_both_kept(services) -> None:
    states = [await services.start_questionnaire("ada", QuestionnaireOptions()) for _ in range(2)]
    results = await outcomes(
        *(services.answer_question(state.questionnaire.id, GivenAnswer(state.question.id, "first")) for state in states)
    )
    assert not [result for result in results if isinstance(result, BaseException)], results
    assert (await services.estimate_preferences("ada")).comparisons == 2


async def test_an_answer_while_its_person_is_erased_leaves_nothing_behind(services) -> None:
    state = await services.start_questionnaire("ada", QuestionnaireOptions())
    given = GivenAnswer(state.question.id, "first")
    await outcomes(services.answer_question(state.questionnaire.id, given), services.delete_user("ada"))
    _, created = await services.put_user("ada", UserChanges(frozenset()))
    assert created
    assert (await services.estimate_preferences("ada")).comparisons == 0


def sent(**values: object) -> UserChanges:
    return UserChanges(frozenset(values), **values)


async def test_a_change_of_another_field_at_once_does_not_restore_consent(services) -> None:
    for _ in range(10):
        await services.put_user("ada", sent(consent=True, about="before"))
        results = await outcomes(
            services.put_user("ada", sent(about="after")),
            services.put_user("ada", sent(consent=False)),
            services.put_user("ada", sent(metadata={"plan": "free"})),
        )
        assert not [result for result in results if isinstance(result, BaseException)], results
        user = await services.get_user("ada")
        assert (user.consent, user.about, user.metadata) == (False, "after", {"plan": "free"})


async def test_a_comparison_that_tells_about_a_person_at_once_does_not_restore_consent(services) -> None:
    told = NewComparison("ada", (Message("user", "hello"),), "good day", "hi there", "first", about="a poet")
    for _ in range(10):
        await services.put_user("ada", sent(consent=True, about=None))
        await outcomes(services.record_comparisons([told]), services.put_user("ada", sent(consent=False)))
        user = await services.get_user("ada")
        assert (user.consent, user.about) == (False, "a poet")


async def test_several_who_create_one_person_at_once_create_them_once(services) -> None:
    for number in range(10):
        changes = (sent(about="a poet"), sent(consent=False), sent(metadata={"plan": "free"}))
        results = await outcomes(*(services.put_user(f"bob-{number}", change) for change in changes))
        assert not [result for result in results if isinstance(result, BaseException)], results
        assert sum(created for _, created in results) == 1
        user = await services.get_user(f"bob-{number}")
        assert (user.about, user.consent, user.metadata) == ("a poet", False, {"plan": "free"})


async def test_a_person_erased_during_a_change_keeps_nothing_from_before(services) -> None:
    for _ in range(10):
        await services.put_user("ada", sent(about="a secret"))
        await outcomes(services.put_user("ada", sent(consent=True)), services.delete_user("ada"))
        user, _ = await services.put_user("ada", sent())
        assert user.about is None
