"""One contract for the database in memory, SQLite and PostgreSQL: what a use case may rely on."""

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone

import pytest

from app.entities import Adjustment, CandidatePair, Comparison, Message, Question, Questionnaire, User
from app.errors import (
    QuestionAlreadyAnswered,
    QuestionnaireNotFound,
    StorageUnavailable,
    UserNotFound,
)
from app.ports import BeginUnitOfWork
from tests.fakes.storage import FakeDatabase

pytestmark = pytest.mark.anyio

NOW = datetime(2026, 2, 3, 4, 5, 6, 789, tzinfo=UTC)
ADA = User("ada", "a poet", True, {"plan": "frée", "deep": [1, 2.5, None]}, NOW, NOW)
PAIR = CandidatePair(3, "home", "plants", "Why?", "Because.", "No idea; whÿ?")


def question(number: int, questionnaire_id: str = "qnr_1") -> Question:
    return Question(
        id=f"qst_{number}_{questionnaire_id}",
        questionnaire_id=questionnaire_id,
        position=number,
        pair=PAIR if number else replace(PAIR, number=None),
        swapped=bool(number % 2),
        expected_information_bits=0.25,
        answer=None,
        latency_ms=None,
        basis_version="v1",
        differences=(0.5, -1 / 3),
    )


def questionnaire(*questions: Question, id_: str = "qnr_1", at: datetime = NOW) -> Questionnaire:
    return Questionnaire(
        id_, "ada", "v1", 10, 0.5, "home", "active", None, questions, at, batch_size=4, source="auto", prompts=("Whÿ?",)
    )


def comparison(number: int, user_id: str = "ada", question_id: str | None = None) -> Comparison:
    return Comparison(
        id=f"cmp_{number}",
        user_id=user_id,
        prompt=(Message("system", "be kind"), Message("user", "Why?")),
        first="a",
        second="b",
        preferred="tie",
        basis_version="v1",
        differences=(0.1, -2 / 3, 1e-17),
        source="api",
        created_at=NOW + timedelta(seconds=number),
        question_id=question_id,
    )


def adjustment(number: int) -> Adjustment:
    return Adjustment(f"adj_{number}", "ada", "v1", number, -0.3, NOW + timedelta(minutes=number))


@pytest.fixture(params=["fake", "sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
async def begin(request: pytest.FixtureRequest, anyio_backend: str, tmp_path: object) -> AsyncIterator[BeginUnitOfWork]:
    if request.param == "fake":
        yield FakeDatabase().begin
        return
    from app.storage.database import Database
    from app.storage.migrations import upgrade

    postgres = request.param == "postgresql"
    url = request.getfixturevalue("postgres_url") if postgres else f"sqlite+aiosqlite:///{tmp_path}/attune.db"
    database = Database(url)
    await upgrade(database)
    yield database.begin
    await database.close()


@pytest.fixture
async def stored(begin: BeginUnitOfWork) -> BeginUnitOfWork:
    """With ada in it."""
    async with begin() as uow:
        await uow.users.add(ADA)
        await uow.commit()
    return begin


async def add(begin: BeginUnitOfWork, made: Questionnaire) -> None:
    async with begin() as uow:
        await uow.questionnaires.add(made)
        await uow.commit()


async def test_a_user_comes_back_as_stored(stored: BeginUnitOfWork) -> None:
    async with stored(read_only=True) as uow:
        assert await uow.users.get("ada") == ADA


async def test_a_user_that_changed_is_replaced(stored: BeginUnitOfWork) -> None:
    changed = replace(ADA, about=None, consent=False)
    async with stored() as uow:
        await uow.users.change(changed)
        await uow.commit()
    async with stored(read_only=True) as uow:
        assert await uow.users.find("ada") == changed


async def test_a_user_whose_id_is_taken_is_not_added(stored: BeginUnitOfWork) -> None:
    async with stored() as uow:
        assert not await uow.users.add(replace(ADA, about="somebody else"))
        assert await uow.users.find("ada", for_update=True) == ADA


async def test_a_change_creates_nobody(stored: BeginUnitOfWork) -> None:
    async with stored() as uow:
        with pytest.raises(UserNotFound):
            await uow.users.change(replace(ADA, id="bob"))
        assert await uow.users.find("bob") is None


async def test_leaving_a_unit_without_commit_rolls_back(stored: BeginUnitOfWork) -> None:
    async with stored() as uow:
        await uow.users.add(replace(ADA, id="bob"))
    async with stored(read_only=True) as uow:
        assert await uow.users.find("bob") is None


async def test_an_error_inside_a_unit_rolls_back(stored: BeginUnitOfWork) -> None:
    async def fail() -> None:
        async with stored() as uow:
            await uow.users.add(replace(ADA, id="bob"))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await fail()
    async with stored(read_only=True) as uow:
        assert await uow.users.find("bob") is None


async def test_an_unknown_user_is_not_found(begin: BeginUnitOfWork) -> None:
    async with begin() as uow:
        assert await uow.users.find("nobody") is None
        with pytest.raises(UserNotFound):
            await uow.users.get("nobody", for_update=True)


async def test_times_come_back_in_utc_whatever_zone_they_had(stored: BeginUnitOfWork) -> None:
    elsewhere = NOW.astimezone(timezone(timedelta(hours=-7)))
    async with stored() as uow:
        await uow.users.change(replace(ADA, updated_at=elsewhere))
        await uow.commit()
    async with stored(read_only=True) as uow:
        assert (await uow.users.get("ada")).updated_at == NOW


async def test_comparisons_come_back_as_stored_in_the_order_of_writing(stored: BeginUnitOfWork) -> None:
    async with stored() as uow:
        await uow.preferences.add_comparisons([comparison(2), comparison(1)])
        await uow.preferences.add_comparisons([comparison(3)])
        await uow.commit()
    async with stored(read_only=True) as uow:
        assert await uow.preferences.comparisons("ada") == [comparison(2), comparison(1), comparison(3)]


async def test_a_comparison_of_an_unknown_user_is_refused(begin: BeginUnitOfWork) -> None:
    with pytest.raises(StorageUnavailable):
        async with begin() as uow:
            await uow.preferences.add_comparisons([comparison(1, user_id="nobody")])


async def test_a_question_has_at_most_one_comparison(stored: BeginUnitOfWork) -> None:
    async with stored() as uow:
        await uow.questionnaires.add(questionnaire(question(0)))
        await uow.preferences.add_comparisons([comparison(1, question_id=question(0).id)])
        await uow.commit()
    with pytest.raises(StorageUnavailable):
        async with stored() as uow:
            await uow.preferences.add_comparisons([comparison(2, question_id=question(0).id)])


async def test_rescoring_changes_what_is_derived_and_nothing_else(stored: BeginUnitOfWork) -> None:
    rescored = replace(comparison(1), basis_version="v2", differences=(9.0,))
    async with stored() as uow:
        await uow.preferences.add_comparisons([comparison(1), comparison(2)])
        await uow.preferences.rescore([rescored])
        await uow.commit()
    async with stored(read_only=True) as uow:
        assert await uow.preferences.comparisons("ada") == [rescored, comparison(2)]


async def test_a_reset_hides_what_came_before_it_and_keeps_it(stored: BeginUnitOfWork) -> None:
    async with stored() as uow:
        await uow.preferences.add_comparisons([comparison(1)])
        await uow.preferences.add_adjustments([adjustment(1)])
        await uow.preferences.reset("ada", NOW)
        await uow.preferences.add_comparisons([comparison(2)])
        await uow.preferences.add_adjustments([adjustment(2)])
        await uow.commit()
    async with stored(read_only=True) as uow:
        assert await uow.preferences.comparisons("ada") == [comparison(2)]
        assert await uow.preferences.adjustments("ada") == [adjustment(2)]
        assert await uow.preferences.comparisons("ada", since_reset=False) == [comparison(1), comparison(2)]
        assert await uow.preferences.adjustments("ada", since_reset=False) == [adjustment(1), adjustment(2)]
        assert await uow.preferences.resets("ada") == [NOW]


async def test_the_version_grows_with_every_write(stored: BeginUnitOfWork) -> None:
    seen = []
    async with stored() as uow:
        seen.append(await uow.preferences.version("ada"))
        await uow.preferences.add_comparisons([comparison(1)])
        seen.append(await uow.preferences.version("ada"))
        await uow.preferences.add_adjustments([adjustment(1)])
        seen.append(await uow.preferences.version("ada"))
        await uow.preferences.reset("ada", NOW + timedelta(hours=1))
        seen.append(await uow.preferences.version("ada"))
    assert seen == [0, 1, 2, 3]


async def test_a_questionnaire_comes_back_as_stored(stored: BeginUnitOfWork) -> None:
    made = questionnaire(replace(question(0), answer="skip", latency_ms=12), question(1))
    async with stored() as uow:
        await uow.questionnaires.add(made)
        await uow.commit()
    async with stored(read_only=True) as uow:
        assert await uow.questionnaires.get("qnr_1") == made


async def test_an_unknown_questionnaire_is_not_found(begin: BeginUnitOfWork) -> None:
    async with begin() as uow:
        with pytest.raises(QuestionnaireNotFound):
            await uow.questionnaires.get("qnr_1", for_update=True)


async def test_an_answer_is_stored_once_and_stays(stored: BeginUnitOfWork) -> None:
    async with stored() as uow:
        await uow.questionnaires.add(questionnaire(question(0)))
        await uow.questionnaires.answer(replace(question(0), answer="first", latency_ms=900))
        with pytest.raises(QuestionAlreadyAnswered, match="'first'"):
            await uow.questionnaires.answer(replace(question(0), answer="second"))
        [kept] = (await uow.questionnaires.get("qnr_1")).questions
        assert (kept.answer, kept.latency_ms) == ("first", 900)


async def test_a_questionnaire_has_one_question_at_each_position(stored: BeginUnitOfWork) -> None:
    await add(stored, questionnaire(replace(question(0), answer="first")))
    with pytest.raises(StorageUnavailable):
        async with stored() as uow:
            await uow.questionnaires.add_question(replace(question(0), id="qst_other"))


async def test_several_questions_may_be_open_at_once(stored: BeginUnitOfWork) -> None:
    await add(stored, questionnaire(question(0)))
    async with stored() as uow:
        await uow.questionnaires.add_question(question(1))
        assert (await uow.questionnaires.get("qnr_1")).open == (question(0), question(1))


async def test_finishing_stores_the_reason(stored: BeginUnitOfWork) -> None:
    done = replace(questionnaire(), status="complete", stop_reason="pool_exhausted")
    async with stored() as uow:
        await uow.questionnaires.add(questionnaire())
        await uow.questionnaires.finish(done)
        assert await uow.questionnaires.get("qnr_1") == done


async def test_a_user_s_questionnaires_come_oldest_first_with_their_questions(stored: BeginUnitOfWork) -> None:
    later = questionnaire(question(0, "qnr_0"), id_="qnr_0", at=NOW + timedelta(seconds=1))
    sooner = questionnaire(question(0))
    async with stored() as uow:
        await uow.questionnaires.add(later)
        await uow.questionnaires.add(sooner)
        assert await uow.questionnaires.of_user("ada") == [sooner, later]
        assert await uow.questionnaires.of_user("bob") == []


async def test_the_questions_of_a_user_come_in_the_order_they_were_asked(stored: BeginUnitOfWork) -> None:
    later = questionnaire(question(0, "qnr_1"), question(1, "qnr_1"), at=NOW + timedelta(days=1))
    sooner = questionnaire(question(0, "qnr_2"), id_="qnr_2")
    async with stored() as uow:
        await uow.questionnaires.add(later)
        await uow.questionnaires.add(sooner)
        assert await uow.questionnaires.questions_of_user("ada") == [*sooner.questions, *later.questions]
        assert await uow.questionnaires.questions_of_user("bob") == []


async def test_erasing_a_user_removes_and_counts_every_row_of_theirs_alone(stored: BeginUnitOfWork) -> None:
    async with stored() as uow:
        await uow.users.add(replace(ADA, id="bob"))
        await uow.questionnaires.add(questionnaire(replace(question(0), answer="first"), question(1)))
        await uow.preferences.add_comparisons([comparison(1, question_id=question(0).id), comparison(2, "bob")])
        await uow.preferences.add_adjustments([adjustment(1)])
        await uow.preferences.reset("ada", NOW)
        assert await uow.users.delete("ada") == {
            "comparisons": 1,
            "adjustments": 1,
            "preference_resets": 1,
            "questions": 2,
            "questionnaires": 1,
            "users": 1,
        }
        await uow.commit()
    async with stored(read_only=True) as uow:
        assert await uow.users.find("ada") is None
        assert await uow.preferences.comparisons("bob") == [comparison(2, "bob")]
