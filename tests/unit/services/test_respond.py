from typing import Any

import numpy as np
import pytest

from app.entities import CandidateSet, Conversation, Message, SamplingOptions
from app.errors import EngineOverloaded, InvalidInput, PromptTooLong, UserNotFound
from app.services.modes import Personalization, Sampling
from app.services.put_user import UserChanges
from app.services.respond import Response
from tests.fakes.world import World

pytestmark = pytest.mark.anyio

PROMPT = (Message("user", "hello"),)
SAMPLING = Sampling(max_tokens=40, temperature=0.8, top_p=0.95, seed=5)


async def generate(world: World, sampling: Sampling = SAMPLING, **options: object) -> Response:
    return await world.respond(PROMPT, Personalization(**{"user_id": "ada", **options}), sampling)  # type: ignore[arg-type]


async def taught(world: World, axis: int = 0, delta: float = 5.0) -> None:
    """Let ada care about one axis alone."""
    mean = (await world.estimate("ada")).belief.mean
    changes = [(index, (delta if index == axis else 0.0) - float(value)) for index, value in enumerate(mean)]
    await world.adjust("ada", changes, "*")


async def test_the_chosen_candidate_is_the_one_the_person_likes_best(world: World) -> None:
    await taught(world)
    response = await generate(world, strength=100.0)
    rewards = [item.candidate.basis_rewards[0] for item in response.candidates]
    assert response.chosen[0].index == int(np.argmax(rewards))


async def test_opposite_tastes_get_different_responses(world: World) -> None:
    await taught(world, delta=5.0)
    likes = await generate(world)
    await taught(world, delta=-5.0)
    dislikes = await generate(world)
    assert likes.chosen[0].index != dislikes.chosen[0].index


async def test_auto_draws_sixteen_candidates(world: World) -> None:
    response = await generate(world)
    assert (response.mode_used, len(response.candidates)) == ("best_of_n", 16)


async def test_off_returns_the_first_candidate_of_the_same_seed(world: World) -> None:
    personal, generic = await generate(world), await generate(world, mode="off")
    assert generic.chosen[0].candidate.text == personal.candidates[0].candidate.text
    assert (generic.mode_used, len(generic.candidates), generic.explanation) == ("off", 1, ())


async def test_strength_zero_behaves_as_off(world: World) -> None:
    assert (await generate(world, strength=0.0, mode="best_of_n")).mode_used == "off"


async def test_someone_without_consent_is_not_personalised_even_on_request(world: World) -> None:
    await world.put_user("ada", UserChanges(frozenset({"consent"}), consent=False))
    assert (await generate(world, mode="best_of_n")).mode_used == "off"


async def test_a_user_without_answers_gets_the_population_s_favourite(world: World) -> None:
    response = await generate(world)
    rewards = [item.candidate.basis_rewards @ world.active.basis.prior.population.mean for item in response.candidates]
    assert response.chosen[0].index == int(np.argmax(rewards))


async def test_nobody_in_particular_gets_the_population_s_favourite(world: World) -> None:
    assert (await generate(world, user_id=None)).chosen[0].index == (await generate(world)).chosen[0].index


async def test_an_unknown_user_is_refused_unless_the_prior_was_asked_for(world: World) -> None:
    with pytest.raises(UserNotFound):
        await generate(world, user_id="nobody")
    assert (await generate(world, user_id="nobody", on_missing_user="prior")).mode_used == "best_of_n"


async def test_the_explanation_adds_up_to_the_margin_over_the_generic_response(world: World) -> None:
    await taught(world)
    response = await generate(world)
    total = sum(part.contribution for part in response.explanation)
    assert response.margin_vs_generic == pytest.approx(total)
    assert response.chosen[0].reward_mean - response.candidates[0].reward_mean == pytest.approx(total)
    assert total > 0


async def test_without_a_seed_two_responses_differ(world: World) -> None:
    sampling = Sampling(max_tokens=40, temperature=0.8, top_p=0.95)
    first, second = await generate(world, sampling), await generate(world, sampling)
    assert first.seed != second.seed
    assert first.chosen[0].candidate.text != second.chosen[0].candidate.text


@pytest.mark.parametrize(("seed", "cacheable"), [(None, False), (5, True), (0, True)])
async def test_only_a_seed_that_the_caller_knows_makes_a_request_worth_keeping(
    world: World, seed: int | None, cacheable: bool
) -> None:
    asked: list[SamplingOptions] = []
    draw = world.engine.candidates

    async def watch(conversation: Conversation, n: int, options: SamplingOptions, **others: Any) -> CandidateSet:
        asked.append(options)
        return await draw(conversation, n, options, **others)

    world.engine.candidates = watch  # type: ignore[method-assign]
    await generate(world, Sampling(40, 0.8, 0.95, seed))
    assert [options.cacheable for options in asked] == [cacheable]


async def test_several_responses_come_best_first(world: World) -> None:
    await taught(world)
    response = await generate(world, Sampling(40, 0.8, 0.95, 5, count=4), strength=100.0)
    means = [item.candidate.basis_rewards[0] for item in response.chosen]
    assert means == sorted(means, reverse=True)
    assert len({item.index for item in response.chosen}) == 4


async def test_more_responses_than_candidates_are_refused(world: World) -> None:
    with pytest.raises(InvalidInput, match="raise n_candidates"):
        await generate(world, Sampling(40, 0.8, 0.95, 5, count=4), n_candidates=3)


async def test_all_generated_tokens_are_counted_and_the_accepted_ones_apart(world: World) -> None:
    response = await generate(world)
    assert response.completion_tokens == sum(item.candidate.tokens for item in response.candidates)
    assert response.accepted_tokens == response.chosen[0].candidate.tokens


@pytest.mark.parametrize("error", [EngineOverloaded(3), PromptTooLong(600, 40, 512)])
async def test_errors_of_the_engine_reach_the_caller(world: World, error: Exception) -> None:
    world.engine.fail_next(error)
    with pytest.raises(type(error)):
        await generate(world)


async def test_ranking_puts_first_what_the_person_likes_best(world: World) -> None:
    await taught(world)
    texts = ["warm gentle evening", "quick plain list", "water walk", "see the note"]
    ranking = await world.rank("ada", PROMPT, texts)
    rewards = (await world.engine.basis_rewards(PROMPT, texts))[:, 0]
    assert ranking.responses[0].text == texts[int(np.argmax(rewards))]
    assert sorted(item.position for item in ranking.responses) == [0, 1, 2, 3]
