from typing import Any

import pytest

from app.entities import Message
from app.errors import EngineOverloaded, GuidanceUnavailable, UserNotFound
from app.services.modes import Personalization, Sampling
from app.services.respond import Response
from app.services.stream_response import Piece
from tests.fakes.world import World

pytestmark = pytest.mark.anyio

PROMPT = (Message("user", "hello"),)
SAMPLING = Sampling(max_tokens=40, temperature=0.8, top_p=0.95, seed=5)


async def streamed(
    world: World, sampling: Sampling = SAMPLING, **options: Any
) -> tuple[list[Piece], Response, Response]:
    """The pieces, the response after them, and the response of the same request without a stream."""
    wanted = Personalization(**{"user_id": "ada", **options})
    *pieces, response = [item async for item in world.stream(PROMPT, wanted, sampling)]
    assert all(isinstance(piece, Piece) for piece in pieces)
    assert isinstance(response, Response)
    return pieces, response, await world.respond(PROMPT, wanted, sampling)  # type: ignore[return-value]


@pytest.mark.parametrize(
    "options",
    [
        {"mode": "off"},
        {"mode": "guided"},
        {"mode": "guided", "guidance": "block"},
        {"mode": "guided", "explain": "full"},
        {"mode": "best_of_n", "n_candidates": 1},
    ],
)
async def test_a_single_candidate_comes_in_pieces(world: World, options: dict[str, Any]) -> None:
    pieces, response, whole = await streamed(world, **options)
    text = response.chosen[0].candidate.text
    assert "".join(piece.text for piece in pieces) == text == whole.chosen[0].candidate.text
    assert {piece.response_id for piece in pieces} == {response.id}
    assert response.margin_vs_generic == whole.margin_vs_generic
    assert response.completion_tokens == whole.completion_tokens


@pytest.mark.parametrize(
    ("sampling", "options"),
    [
        (SAMPLING, {"mode": "best_of_n"}),
        (SAMPLING, {"mode": "guided", "n_candidates": 4}),
        (Sampling(40, 0.8, 0.95, 5, count=2), {"mode": "off"}),
    ],
)
async def test_one_of_several_comes_at_once(world: World, sampling: Sampling, options: dict[str, Any]) -> None:
    pieces, response, whole = await streamed(world, sampling, **options)
    assert pieces == []
    assert [one.index for one in response.chosen] == [one.index for one in whole.chosen]


async def test_leaving_ends_the_decoding(world: World) -> None:
    stream = world.stream(PROMPT, Personalization("ada", "guided"), SAMPLING)
    await anext(stream)
    await stream.aclose()
    assert (world.engine.rows, world.engine.tokens_generated) == (0, 1)


async def test_what_is_wrong_with_a_request_is_raised_before_any_piece(world: World) -> None:
    with pytest.raises(UserNotFound):
        await anext(world.stream(PROMPT, Personalization("nobody"), SAMPLING))
    world.engine.steering = frozenset()
    with pytest.raises(GuidanceUnavailable):
        await anext(world.stream(PROMPT, Personalization("ada", "guided"), SAMPLING))


async def test_a_stream_ends_well_even_if_there_is_nothing_to_compare_it_with(world: World) -> None:
    world.engine.fail_after(1, EngineOverloaded(3))
    wanted = Personalization(user_id="ada", mode="guided", explain="full")
    *pieces, response = [item async for item in world.stream(PROMPT, wanted, SAMPLING)]
    assert isinstance(response, Response)
    assert "".join(piece.text for piece in pieces if isinstance(piece, Piece)) == response.chosen[0].candidate.text
    assert response.margin_vs_generic is None
