from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest
from structlog.testing import capture_logs

from app.entities import Message
from app.errors import PosteriorNotConverged
from app.preferences.priors.gaussian import GaussianPrior
from app.preferences.priors.mixture import MixturePrior
from app.services.put_user import UserChanges
from app.services.record_comparisons import NewComparison
from tests.fakes.priors import ReadingPrior, unsolved
from tests.fakes.world import World

pytestmark = pytest.mark.anyio

HALF_LIFE = 30.0


def compared(world: World, age_days: float) -> NewComparison:
    at = world.clock.now - timedelta(days=age_days)
    prompt = (Message("user", "hello"),)
    return NewComparison("ada", prompt, "warm gentle evening", "quick plain list", "second", at=at)


def alike(world: World, age_days: float) -> NewComparison:
    """A comparison of equal rewards, which tells nothing but that it was made."""
    return replace(compared(world, age_days), first="warm evening", second="evening warm")


def forgetful(world: World, half_life_days: float | None = HALF_LIFE) -> World:
    return world.with_pool(world.active.pool, half_life_days=half_life_days)


def moved(world: World, belief: Any) -> float:
    """How far a belief is from the population's, in log-odds of the pair compared."""
    [stored, *_] = world.database.rows.comparisons
    return abs(float((belief.mean - world.active.basis.prior.population.mean) @ np.array(stored.differences)))


async def test_without_a_half_life_an_old_comparison_counts_as_a_new_one(world: World) -> None:
    await world.record([compared(world, 1000.0)])
    old = (await world.estimate("ada")).belief
    await world.reset("ada")
    await world.record([compared(world, 0.0)])
    np.testing.assert_array_equal(old.mean, (await world.estimate("ada")).belief.mean)


async def test_with_a_half_life_an_old_comparison_moves_the_belief_less(world: World) -> None:
    await world.record([compared(world, 300.0), alike(world, 0.0)])
    full = moved(world, (await world.estimate("ada")).belief)
    assert 0.0 < moved(world, (await forgetful(world).estimate("ada")).belief) < 0.1 * full


async def test_the_belief_stays_the_same_while_nothing_is_written(world: World) -> None:
    await world.record([compared(world, 90.0)])
    before = await forgetful(world).estimate("ada")
    world.clock.now += timedelta(days=365)
    after = await forgetful(world).estimate("ada")
    assert (before.belief.mean.tobytes(), before.version) == (after.belief.mean.tobytes(), after.version)


async def test_a_comparison_ages_when_a_newer_one_is_made(world: World) -> None:
    await world.record([compared(world, 0.0)])
    before = moved(world, (await forgetful(world).estimate("ada")).belief)
    world.clock.now += timedelta(days=300)
    await world.record([alike(world, 0.0)])
    assert moved(world, (await forgetful(world).estimate("ada")).belief) < 0.01 * before


async def test_an_adjustment_moves_its_own_axis_alone_however_much_later_it_is_made(world: World) -> None:
    forgetting = forgetful(world)
    await world.record([compared(world, 40.0), compared(world, 0.0)])
    before = (await forgetting.estimate("ada")).belief
    world.clock.now += timedelta(days=300)
    after = (await forgetting.adjust("ada", [(1, 0.5)], "*")).belief
    np.testing.assert_allclose(after.mean - before.mean, [0.0, 0.5, 0.0, 0.0], atol=1e-12)
    np.testing.assert_array_equal(after.covariance(), before.covariance())


async def test_old_comparisons_that_are_sent_together_count_by_the_newest_of_them(world: World) -> None:
    await world.record([compared(world, 900.0), compared(world, 870.0)])
    backfilled = (await forgetful(world).estimate("ada")).belief
    await world.reset("ada")
    await world.record([compared(world, 30.0), compared(world, 0.0)])
    fresh = (await forgetful(world).estimate("ada")).belief
    np.testing.assert_allclose(backfilled.mean, fresh.mean, rtol=1e-6)


async def test_a_comparison_written_within_a_millisecond_has_no_negative_age(world: World) -> None:
    world.clock.now = datetime(2026, 5, 1, microsecond=999, tzinfo=UTC)
    state = await world.start("ada", 1)
    await world.answer_all(state)
    assert (await forgetful(world).estimate("ada")).comparisons == 1


async def test_another_half_life_is_another_version(world: World) -> None:
    assert await world.estimate.version("ada") != await forgetful(world).estimate.version("ada")


async def reading(world: World, about: str | None, **changes: Any) -> World:
    sent = {"about": about, **changes}
    await world.put_user("ada", UserChanges(frozenset(sent), **sent))
    return world.with_prior(ReadingPrior(world.active.basis.prior.population))  # type: ignore[arg-type]


async def test_what_a_person_writes_of_themselves_is_where_their_estimate_starts(world: World) -> None:
    reader = await reading(world, "I like warm words.")
    offset = (await reader.estimate("ada")).belief.mean - reader.active.basis.prior.population.mean
    np.testing.assert_allclose(offset, [0.0, 1.0, 0.0, 0.0])


async def test_somebody_who_wrote_about_themselves_is_served_by_it_before_any_answer(world: World) -> None:
    reader = await reading(world, "I like warm words.")
    served = await reader.belief("ada")
    assert served.belief.mean[1] == reader.active.basis.prior.population.mean[1] + 1.0


async def test_without_consent_what_somebody_wrote_is_not_used(world: World) -> None:
    reader = await reading(world, "I like warm words.", consent=False)
    served = await reader.belief("ada")
    assert served.belief is reader.active.basis.prior.population


async def test_answers_count_on_top_of_what_a_person_wrote(world: World) -> None:
    reader = await reading(world, "I like warm words.")
    await reader.record([compared(reader, 0.0)])
    told = (await reader.estimate("ada")).belief.mean
    untold = (await (await reading(world, None)).estimate("ada")).belief.mean
    assert told[1] > untold[1]


async def test_writing_something_else_of_oneself_is_another_version(world: World) -> None:
    reader = await reading(world, "I like warm words.")
    before = (await reader.estimate("ada")).version
    await reading(world, "I like plain words.")
    assert (await reader.estimate("ada")).version != before


async def test_a_gaussian_that_is_not_solved_is_an_error(world: World) -> None:
    stuck = world.with_prior(unsolved(GaussianPrior)(world.active.basis.prior.population))  # type: ignore[arg-type]
    with pytest.raises(PosteriorNotConverged, match="0 comparisons"):
        await stuck.estimate("ada")


async def test_another_family_that_is_not_solved_is_served_as_far_as_it_came_and_logged(world: World) -> None:
    prior = unsolved(MixturePrior)(np.array([0.5, 0.5]), np.eye(2, 4), np.stack([np.eye(4)] * 2))
    with capture_logs() as logged:
        estimate = await world.with_prior(prior).estimate("ada")
    np.testing.assert_allclose(estimate.belief.mean, [0.5, 0.5, 0.0, 0.0])
    assert [(entry["event"], entry["family"]) for entry in logged] == [("fit_not_converged", "mixture")]
