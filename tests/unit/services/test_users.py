import pytest

from app.entities import Message
from app.errors import UserNotFound
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
