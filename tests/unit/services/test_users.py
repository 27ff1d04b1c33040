import pytest

from app.entities import Message
from app.errors import EngineUnreachable, Unauthorized, UserNotFound
from app.services.put_user import UserChanges
from app.services.record_comparisons import NewComparison
from tests.fakes.world import World

pytestmark = pytest.mark.anyio


def sent(**values: object) -> UserChanges:
    return UserChanges(frozenset(values), **values)


async def test_a_user_put_for_the_first_time_is_new_and_later_is_not(world: World) -> None:
    _, created = await world.put_user("bob", sent())
    _, again = await world.put_user("bob", sent())
    assert (created, again) == (True, False)


async def test_a_field_left_out_keeps_its_value_so_consent_withdrawn_stays_withdrawn(world: World) -> None:
    await world.put_user("ada", sent(consent=False, about="likes brevity"))
    user, _ = await world.put_user("ada", sent(metadata={"plan": "free"}))
    assert (user.consent, user.about, user.metadata) == (False, "likes brevity", {"plan": "free"})


async def test_an_unknown_user_is_not_found(world: World) -> None:
    with pytest.raises(UserNotFound, match="nobody"):
        await world.get_user("nobody")


async def test_erasure_leaves_nothing_and_counts_what_went(world: World) -> None:
    await world.answer_all(await world.start("ada", 3))
    receipt = await world.delete_user("ada")
    assert receipt.rows == {
        "comparisons": 3,
        "adjustments": 0,
        "preference_resets": 0,
        "questions": 3,
        "questionnaires": 1,
        "users": 1,
    }
    assert not world.database.rows.comparisons
    assert not world.database.rows.questionnaires


async def test_the_export_holds_what_was_said_before_a_reset_too(world: World) -> None:
    prompt = (Message("user", "hello"),)
    await world.record([NewComparison("ada", prompt, "good day", "hi there", "first")])
    await world.reset("ada")
    export = await world.export_user("ada")
    assert [item.first for item in export.comparisons] == ["good day"]
    assert len(export.resets) == 1
    assert export.estimate.comparisons == 0


async def test_erasing_a_user_lets_the_engine_forget_texts(world: World) -> None:
    receipt = await world.delete_user("ada")
    assert (receipt.engine_forgot, world.engine.forgotten) == (True, 1)


async def test_an_erasure_without_an_engine_says_that_it_may_still_know_texts(world: World) -> None:
    async def gone() -> None:
        raise EngineUnreachable("no answer")

    world.engine.forget = gone  # type: ignore[method-assign]
    receipt = await world.delete_user("ada")
    assert not receipt.engine_forgot
    with pytest.raises(UserNotFound):
        await world.get_user("ada")


async def test_the_engine_is_not_asked_to_forget_for_someone_unknown(world: World) -> None:
    with pytest.raises(UserNotFound):
        await world.delete_user("nobody")
    assert world.engine.forgotten == 0


async def test_an_erasure_is_told_of_even_if_the_engine_refuses_to_forget(world: World) -> None:
    async def refuse() -> None:
        raise Unauthorized()

    world.engine.forget = refuse  # type: ignore[method-assign]
    assert not (await world.delete_user("ada")).engine_forgot
