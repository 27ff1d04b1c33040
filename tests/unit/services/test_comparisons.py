from datetime import UTC, datetime

import numpy as np
import pytest

from app.entities import Message
from app.errors import PromptTooLong, UserNotFound
from app.services.record_comparisons import NewComparison
from tests.fakes.world import World, nothing_written

pytestmark = pytest.mark.anyio

PROMPT = (Message("user", "hello"),)


async def test_differences_are_first_minus_second(world: World) -> None:
    await world.record([NewComparison("ada", PROMPT, "good day", "hi there", "second")])
    [stored] = world.database.rows.comparisons
    rewards = await world.engine.basis_rewards(PROMPT, ["good day", "hi there"])
    np.testing.assert_allclose(stored.differences, rewards[0] - rewards[1])


async def test_an_unknown_user_anywhere_refuses_all_and_is_named_by_index(world: World) -> None:
    items = [NewComparison(user, PROMPT, "good day", "hi there", "first") for user in ("ada", "nobody")]
    with nothing_written(world), pytest.raises(UserNotFound) as caught:
        await world.record(items)
    assert caught.value.field == "comparisons.1.user_id"


async def test_a_text_that_is_too_long_refuses_all_and_is_named_by_index(world: World) -> None:
    items = [NewComparison("ada", PROMPT, text, "hi there", "first") for text in ("good day", "word " * 600)]
    with nothing_written(world), pytest.raises(PromptTooLong) as caught:
        await world.record(items)
    assert caught.value.field == "comparisons.1.prompt"


async def test_a_comparison_keeps_the_time_it_was_made(world: World) -> None:
    at = datetime(2025, 5, 1, tzinfo=UTC)
    await world.record([NewComparison("ada", PROMPT, "good day", "hi there", "first", at=at)])
    assert world.database.rows.comparisons[0].created_at == at


async def test_what_is_said_about_a_person_is_kept_with_them(world: World) -> None:
    await world.record([NewComparison("ada", PROMPT, "good day", "hi there", "first", about="a poet")])
    assert (await world.get_user("ada")).about == "a poet"


async def test_preferences_changed_when_the_comparison_was_written_not_when_it_was_made(world: World) -> None:
    at = datetime(2025, 5, 1, tzinfo=UTC)
    await world.record([NewComparison("ada", PROMPT, "good day", "hi there", "first", at=at)])
    assert (await world.estimate("ada")).updated_at == world.clock.now
