"""Guided responses, soft choice, early stopping and mode auto, over the scripted engine."""

from math import log
from typing import Any

import numpy as np
import pytest

from app.entities import FrontierPoint, Message, Steering
from app.errors import EngineOverloaded, GuidanceUnavailable
from app.services.identifiers import tenant_of
from app.services.modes import Personalization, Sampling
from app.services.put_user import UserChanges
from app.services.respond import Response
from tests.fakes.world import World

pytestmark = pytest.mark.anyio

PROMPT = (Message("user", "hello"),)
SAMPLING = Sampling(max_tokens=40, temperature=0.8, top_p=0.95, seed=5)
TOKEN = FrontierPoint("token", "guided", 1, "token", 0.0, 1.0, 0.9)


async def generate(world: World, sampling: Sampling = SAMPLING, **options: Any) -> Response:
    return await world.respond(PROMPT, Personalization(**{"user_id": "ada", **options}), sampling)


async def taught(world: World, delta: float = 5.0) -> None:
    """Let ada care about the first axis alone."""
    mean = (await world.estimate("ada")).belief.mean
    changes = [(index, (delta if index == 0 else 0.0) - float(value)) for index, value in enumerate(mean)]
    await world.adjust("ada", changes, "*")


async def asked(world: World, monkeypatch: pytest.MonkeyPatch, **options: Any) -> dict[str, Any]:
    """What the engine was asked for: steering and caller."""
    found: dict[str, Any] = {}
    draw = world.engine.candidates

    async def watch(*arguments: Any, **given: Any) -> Any:
        found.update(given)
        return await draw(*arguments, **given)

    monkeypatch.setattr(world.engine, "candidates", watch)
    await generate(world, **options)
    return found


async def test_a_guided_response_is_liked_better_than_a_plain_one(world: World) -> None:
    await taught(world)
    plain = [await generate(world, Sampling(40, 0.8, 0.95, seed), mode="off") for seed in range(20)]
    guided = [await generate(world, Sampling(40, 0.8, 0.95, seed), mode="guided") for seed in range(20)]
    liked = [np.mean([one.chosen[0].candidate.basis_rewards[0] for one in several]) for several in (plain, guided)]
    assert liked[1] > liked[0] + 0.5


async def test_a_guided_response_is_one_candidate(world: World) -> None:
    response = await generate(world, mode="guided")
    assert (response.mode_used, response.guidance, len(response.candidates)) == ("guided", "token", 1)


async def test_the_steering_has_the_persons_coefficients_and_strength(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    await taught(world)
    mean = (await world.estimate("ada")).belief.mean
    given = await asked(world, monkeypatch, mode="guided", strength=0.7)
    assert given["steering"] == Steering(tuple(mean.tolist()), "token", 0.7)


async def test_someone_unknown_is_steered_by_the_population(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    given = await asked(world, monkeypatch, mode="guided", user_id="nobody", on_missing_user="prior")
    assert given["steering"].coefficients == tuple(world.active.basis.prior.population.mean.tolist())


async def test_the_engine_is_told_whose_turn_it_is_but_not_who_that_is(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    caller = (await asked(world, monkeypatch))["caller"]
    assert caller.tenant == tenant_of("ada")
    assert "ada" not in caller.tenant


async def test_guidance_by_blocks_is_used_where_tokens_cannot_be_guided(world: World) -> None:
    world.engine.steering = frozenset({"block"})
    assert (await generate(world, mode="guided")).guidance == "block"


@pytest.mark.parametrize(
    "options",
    [{"mode": "guided"}, {"mode": "guided", "guidance": "block"}, {"mode": "best_of_n", "early_stopping": True}],
)
async def test_what_the_engine_cannot_do_is_refused(world: World, options: dict[str, Any]) -> None:
    world.engine.steering = frozenset()
    with pytest.raises(GuidanceUnavailable):
        await generate(world, **options)


async def test_auto_falls_back_to_what_the_engine_can_do(world: World) -> None:
    world.engine.steering = frozenset()
    response = await generate(world.with_frontier([TOKEN]), early_stopping=True)
    assert (response.mode_used, len(response.candidates)) == ("best_of_n", 16)


async def test_auto_takes_the_way_that_was_measured_best_and_says_why(world: World) -> None:
    response = await generate(world.with_frontier([TOKEN]))
    assert (response.mode_used, response.guidance) == ("guided", "token")
    assert response.reason == "token: the cheapest within 0.01 of the best win rate, 0.90."


async def test_someone_without_consent_is_not_guided(world: World) -> None:
    await world.put_user("ada", UserChanges(frozenset({"consent"}), consent=False))
    response = await generate(world, mode="guided")
    assert (response.mode_used, response.guidance) == ("off", "none")
    assert response.reason == "The person has not agreed to personal responses."


async def test_strength_zero_is_not_guided(world: World) -> None:
    assert (await generate(world, mode="guided", strength=0.0)).mode_used == "off"


async def test_a_guided_response_is_compared_with_none_unless_all_is_to_be_explained(world: World) -> None:
    response = await generate(world, mode="guided")
    assert response.margin_vs_generic is None
    assert sum(part.contribution for part in response.explanation) == pytest.approx(response.chosen[0].reward_mean)


async def test_a_fully_explained_guided_response_is_compared_with_the_plain_one(world: World) -> None:
    await taught(world)
    response = await generate(world, mode="guided", explain="full")
    plain = (await generate(world, mode="best_of_n", n_candidates=1)).chosen[0]
    assert response.margin_vs_generic == pytest.approx(response.chosen[0].reward_mean - plain.reward_mean)
    assert response.completion_tokens == response.chosen[0].candidate.tokens + plain.candidate.tokens


async def test_the_best_of_several_guided_responses_is_chosen(world: World) -> None:
    await taught(world)
    response = await generate(world, mode="guided", n_candidates=6, strength=100.0)
    liked = [one.candidate.basis_rewards[0] for one in response.candidates]
    assert (len(liked), response.chosen[0].index) == (6, int(np.argmax(liked)))


async def test_a_dropped_candidate_is_never_chosen(world: World) -> None:
    await taught(world)
    responses = [
        await generate(world, Sampling(60, 0.8, 0.95, seed), mode="best_of_n", early_stopping=True) for seed in range(8)
    ]
    assert sum(response.dropped for response in responses) > 0
    assert all(response.chosen[0].candidate.finish_reason != "dropped" for response in responses)


async def test_early_stopping_mostly_leaves_the_choice_as_it_is_and_costs_less(world: World) -> None:
    await taught(world)
    same, tokens = 0, [0, 0]
    for seed in range(12):
        sampling = Sampling(60, 0.8, 0.95, seed)
        whole = await generate(world, sampling, mode="best_of_n")
        early = await generate(world, sampling, mode="best_of_n", early_stopping=True)
        same += whole.chosen[0].index == early.chosen[0].index
        tokens = [tokens[0] + whole.completion_tokens, tokens[1] + early.completion_tokens]
    assert same >= 10
    assert tokens[1] < 0.9 * tokens[0]


async def test_a_comparison_with_a_dropped_plain_answer_is_called_an_estimate(world: World) -> None:
    await taught(world)
    for seed in range(20):
        response = await generate(world, Sampling(60, 0.8, 0.95, seed), mode="best_of_n", early_stopping=True)
        dropped = response.candidates[0].candidate.finish_reason == "dropped"
        assert response.generic_estimated is dropped
        if dropped:
            return
    raise AssertionError("no first candidate was dropped")


async def test_several_responses_are_never_stopped_early(world: World) -> None:
    response = await generate(world, Sampling(60, 0.8, 0.95, 5, count=4), mode="best_of_n", early_stopping=True)
    assert response.dropped == 0


async def test_the_choice_temperature_draws_reproducibly_and_not_always_the_best(world: World) -> None:
    await taught(world)
    soft = {"mode": "best_of_n", "choice_temperature": 5.0, "strength": 100.0}
    drawn, best = [], []
    for seed in range(12):
        sampling = Sampling(40, 0.8, 0.95, seed)
        first, again = await generate(world, sampling, **soft), await generate(world, sampling, **soft)
        assert [one.index for one in first.chosen] == [one.index for one in again.chosen]
        drawn.append(first.chosen[0].index)
        best.append((await generate(world, sampling, mode="best_of_n", strength=100.0)).chosen[0].index)
    assert drawn != best


async def test_the_divergence_is_bounded_for_best_of_n_alone(world: World) -> None:
    best, guided = await generate(world, mode="best_of_n", n_candidates=4), await generate(world, mode="guided")
    assert best.kl_bound == pytest.approx(log(4) - 3 / 4)
    assert (best.soft_kl, guided.kl_bound) == (None, None)


async def test_a_random_choice_does_not_diverge(world: World) -> None:
    response = await generate(world, mode="best_of_n", n_candidates=4, choice_temperature=100.0)
    assert response.soft_kl == pytest.approx(0.0, abs=0.01)


@pytest.mark.parametrize(
    ("able", "options", "field"),
    [
        (set(), {"mode": "best_of_n", "early_stopping": True}, "personalization.early_stopping"),
        ({"block"}, {"mode": "guided", "early_stopping": True}, "personalization.early_stopping"),
        ({"token"}, {"mode": "guided", "guidance": "block"}, "personalization.guidance"),
        ({"early_stopping"}, {"mode": "guided"}, "personalization.mode"),
    ],
)
async def test_what_the_engine_cannot_do_is_refused_under_the_field_that_asked_for_it(
    world: World, able: set[Any], options: dict[str, Any], field: str
) -> None:
    world.engine.steering = frozenset(able)
    with pytest.raises(GuidanceUnavailable) as refused:
        await generate(world, **options)
    assert refused.value.field == field
    assert all(kind in refused.value.message for kind in able)


@pytest.mark.parametrize("mode", ["auto", "best_of_n"])
async def test_at_temperature_zero_no_candidate_is_drawn_twice(world: World, mode: str) -> None:
    response = await generate(world, Sampling(40, 0.0, 0.95, 5), mode=mode)
    assert (len(response.candidates), response.kl_bound) == (1, 0.0)
    assert response.reason is not None
    assert "At temperature 0 all candidates are the same" in response.reason


async def test_at_temperature_zero_as_many_responses_come_back_as_were_asked_for(world: World) -> None:
    response = await generate(world, Sampling(40, 0.0, 0.95, 5, count=3), mode="best_of_n", n_candidates=8)
    assert (len(response.chosen), len(response.candidates)) == (3, 3)


async def test_a_guided_response_is_served_even_if_there_is_none_to_compare_it_with(world: World) -> None:
    world.engine.fail_after(1, EngineOverloaded(3))
    response = await generate(world, mode="guided", explain="full")
    assert (len(response.chosen), response.margin_vs_generic) == (1, None)
    assert response.not_compared == EngineOverloaded(3).message


async def test_early_stopping_at_a_small_strength_spares_what_the_population_likes(world: World) -> None:
    await taught(world)
    same = 0
    for seed in range(12):
        sampling = Sampling(60, 0.8, 0.95, seed)
        whole = await generate(world, sampling, mode="best_of_n", strength=0.01)
        early = await generate(world, sampling, mode="best_of_n", strength=0.01, early_stopping=True)
        same += whole.chosen[0].index == early.chosen[0].index
    assert same >= 10


@pytest.mark.parametrize("strength", [1.0, 20.0])
async def test_early_stopping_at_full_strength_goes_by_the_persons_taste(
    world: World, monkeypatch: pytest.MonkeyPatch, strength: float
) -> None:
    await taught(world)
    mean = (await world.estimate("ada")).belief.mean
    given = await asked(world, monkeypatch, mode="best_of_n", early_stopping=True, strength=strength)
    assert given["steering"].coefficients == pytest.approx(tuple(mean.tolist()), abs=0.15)
