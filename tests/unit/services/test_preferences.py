from dataclasses import replace

import numpy as np
import pytest

from app.entities import Message
from app.errors import PreconditionRequired, PreferencesChanged, UnknownAxis, UserNotFound
from app.services.put_user import UserChanges
from app.services.record_comparisons import NewComparison
from tests.fakes.world import World, nothing_written

pytestmark = pytest.mark.anyio

PROMPT = (Message("user", "hello"),)


def compare(first: str, second: str, preferred: str = "first") -> NewComparison:
    return NewComparison("ada", PROMPT, first, second, preferred)  # type: ignore[arg-type]


async def test_without_answers_the_population_s_coefficients_are_the_estimate(world: World) -> None:
    estimate = await world.estimate("ada")
    np.testing.assert_array_equal(estimate.belief.mean, world.active.basis.prior.population.mean)
    assert estimate.comparisons == 0


async def test_a_choice_raises_the_reward_of_what_was_chosen(world: World) -> None:
    await world.record([compare("warm gentle evening", "quick plain list")])
    [stored] = world.database.rows.comparisons
    estimate = await world.estimate("ada")
    before = world.active.basis.prior.population.mean @ stored.differences
    assert estimate.belief.mean @ stored.differences > before


async def test_a_tie_shrinks_the_margin_without_turning_it(world: World) -> None:
    await world.record([compare("warm gentle evening", "quick plain list", "tie")])
    [stored] = world.database.rows.comparisons
    after = (await world.estimate("ada")).belief.mean @ stored.differences
    before = world.active.basis.prior.population.mean @ stored.differences
    assert 0 <= after / before < 1


async def test_the_same_log_gives_the_same_estimate_bit_by_bit(world: World) -> None:
    await world.answer_all(await world.start("ada", 5))
    first, second = await world.estimate("ada"), await world.estimate("ada")
    assert first.belief.mean.tobytes() == second.belief.mean.tobytes()
    assert first.version == second.version


async def test_every_write_changes_the_version(world: World) -> None:
    versions = [(await world.estimate("ada")).version]
    await world.record([compare("one text", "another text")])
    versions.append((await world.estimate("ada")).version)
    versions.append((await world.adjust("ada", [(0, 1.0)], versions[-1])).version)
    versions.append((await world.reset("ada")).version)
    assert len(set(versions)) == 4


async def test_the_version_alone_is_the_one_of_the_estimate(world: World) -> None:
    await world.record([compare("one text", "another text")])
    assert await world.estimate.version("ada") == (await world.estimate("ada")).version


async def test_a_user_erased_and_created_again_has_other_versions(world: World) -> None:
    before = await world.estimate.version("ada")
    await world.delete_user("ada")
    await world.put_user("ada", UserChanges(frozenset()))
    assert await world.estimate.version("ada") != before


async def test_an_adjustment_moves_its_coefficient_by_its_delta(world: World) -> None:
    before = await world.estimate("ada")
    after = await world.adjust("ada", [(2, -0.75)], before.version)
    np.testing.assert_allclose(after.belief.mean - before.belief.mean, [0, 0, -0.75, 0], atol=1e-12)


async def test_an_adjustment_without_a_version_is_refused(world: World) -> None:
    with pytest.raises(PreconditionRequired):
        await world.adjust("ada", [(0, 1.0)], None)


async def test_an_adjustment_of_a_state_that_has_passed_is_refused(world: World) -> None:
    old = await world.estimate.version("ada")
    await world.adjust("ada", [(0, 1.0)], old)
    with pytest.raises(PreferencesChanged):
        await world.adjust("ada", [(0, 1.0)], old)
    assert len(world.database.rows.adjustments) == 1


async def test_an_adjustment_of_an_axis_that_does_not_exist_is_refused(world: World) -> None:
    with pytest.raises(UnknownAxis, match="0 to 3"):
        await world.adjust("ada", [(4, 1.0)], "*")


async def test_a_reset_returns_to_the_population(world: World) -> None:
    await world.answer_all(await world.start("ada", 3))
    await world.adjust("ada", [(0, 1.0)], "*")
    estimate = await world.reset("ada")
    np.testing.assert_array_equal(estimate.belief.mean, world.active.basis.prior.population.mean)
    assert estimate.comparisons == 0


async def test_comparisons_of_another_basis_are_scored_again_once(world: World) -> None:
    await world.record([compare("warm gentle evening", "quick plain list")])
    newer = world.on_another_basis()
    await newer.estimate("ada")
    asked = newer.engine.requests
    await newer.estimate("ada")
    assert (asked, newer.engine.requests) == (1, 1)
    assert {item.basis_version for item in newer.database.rows.comparisons} == {"newer"}


async def test_comparisons_of_another_basis_count_as_if_made_on_the_active_one(world: World) -> None:
    await world.record([compare("warm gentle evening", "quick plain list")])
    expected = (await world.estimate("ada")).belief.mean
    newer = world.on_another_basis()
    newer.database.rows.comparisons = [
        replace(item, differences=(9.0, 9.0, 9.0, 9.0)) for item in newer.database.rows.comparisons
    ]
    np.testing.assert_allclose((await newer.estimate("ada")).belief.mean, expected, rtol=1e-9)


async def test_adjustments_of_another_basis_are_left_out(world: World) -> None:
    await world.adjust("ada", [(0, 5.0)], "*")
    newer = world.on_another_basis()
    np.testing.assert_array_equal((await newer.estimate("ada")).belief.mean, newer.active.basis.prior.population.mean)


async def test_an_old_comparison_too_long_for_the_active_model_is_left_out(world: World) -> None:
    await world.record([compare("warm gentle evening", "quick plain list")])
    newer = world.on_another_basis()
    newer.engine.context = 2
    estimate = await newer.estimate("ada")
    np.testing.assert_array_equal(estimate.belief.mean, newer.active.basis.prior.population.mean)


async def test_preferences_of_nobody_are_not_found(world: World) -> None:
    with pytest.raises(UserNotFound):
        await world.estimate("nobody")


async def test_comparisons_that_can_never_be_scored_again_are_not_written_again(world: World) -> None:
    await world.record([compare("warm gentle evening", "quick plain list")])
    newer = world.on_another_basis()
    newer.engine.context = 2
    with nothing_written(newer):
        await newer.estimate("ada")
