"""The service works whatever family of priors and model of answers a basis has."""

from dataclasses import replace

import numpy as np
import pytest

from app.engines import ActiveBasis
from app.entities import Message
from app.preferences.answers import ResponseModel
from app.preferences.belief import Prior
from app.preferences.gaussian import Posterior
from app.preferences.priors.atoms import AtomsPrior
from app.preferences.priors.gaussian import GaussianPrior
from app.preferences.priors.mixture import MixturePrior
from app.preferences.priors.simplex import SimplexPrior
from app.services.modes import Personalization, Sampling
from tests.fakes.world import World

pytestmark = pytest.mark.anyio

TASTES = np.array([[2.0, 0.0, 0.0, 0.0], [0.0, 2.0, 0.0, -1.0], [-1.0, 0.0, 2.0, 0.0]])
EVEN = np.full(3, 1 / 3)
PRIORS: list[Prior] = [
    GaussianPrior(Posterior(TASTES[0], np.eye(4))),
    AtomsPrior(TASTES, EVEN, np.zeros((4, 4))),
    MixturePrior(EVEN, TASTES, np.stack([np.eye(4)] * 3)),
    SimplexPrior(Posterior(np.zeros(3), np.eye(3)), TASTES),
]


@pytest.fixture(params=PRIORS, ids=lambda prior: prior.family)
def family(world: World, request: pytest.FixtureRequest) -> World:
    return world.with_prior(request.param)


async def test_answers_move_the_belief_of_every_family(family: World) -> None:
    state = await family.answer_all(await family.start("ada", 2))
    assert state.questionnaire.answered == 2
    assert not np.allclose((await family.estimate("ada")).belief.mean, family.active.basis.prior.population.mean)


async def test_every_family_asks_in_batches(family: World) -> None:
    assert len((await family.start("ada", 10, batch_size=5)).questions) == 5


async def test_the_engine_writes_questions_for_every_family(family: World) -> None:
    state = await family.answer_all(await family.start("ada", 2, source="generated"))
    assert state.questionnaire.answered == 2


async def test_an_adjustment_moves_the_belief_of_every_family_by_its_delta(family: World) -> None:
    await family.answer_all(await family.start("ada", 2))
    before = await family.estimate("ada")
    after = await family.adjust("ada", [(2, -0.75)], before.version)
    np.testing.assert_allclose(after.belief.mean - before.belief.mean, [0, 0, -0.75, 0], atol=1e-9)


async def test_the_same_log_gives_every_family_the_same_bits(family: World) -> None:
    await family.answer_all(await family.start("ada", 3))
    one, other = [await family.estimate("ada") for _ in range(2)]
    assert one.belief.mean.tobytes() == other.belief.mean.tobytes()


async def test_every_family_chooses_a_response_and_explains_it(family: World) -> None:
    await family.answer_all(await family.start("ada", 3))
    response = await family.respond(
        (Message("user", "hello"),), Personalization("ada", n_candidates=8), Sampling(40, 0.8, 0.95, seed=1)
    )
    total = sum(one.contribution for one in response.explanation)
    assert total == pytest.approx(response.margin_vs_generic)


async def test_what_is_known_of_how_people_answer_tempers_the_belief(world: World) -> None:
    await world.answer_all(await world.start("ada", 4), "tie")
    basis = replace(world.active.basis, response=ResponseModel(exponent=0.5, lapse=0.05, tie_strength=0.3))
    careful = World(world.database, world.engine, ActiveBasis(basis, world.active.pool), world.clock)
    assert not np.allclose((await careful.estimate("ada")).belief.mean, (await world.estimate("ada")).belief.mean)
