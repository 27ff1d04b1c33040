# ruff: noqa: E501
"""Thousands of bodies that make no sense leave the engine as it was."""

import json
import random
from typing import Any

import httpx2
import pytest

from tests.fakes.remote import until
from tests.unit.engine.conftest import ServedEngine

pytestmark = pytest.mark.anyio

PATHS = ("/v1/candidates", "/v1/basis-rewards", "/v1/guided", "/v1/forget")
FIELDS = (
    "prompt messages n max_tokens temperature top_p seed stop steering coefficients tenant timeout_seconds cacheable "
    "responses rows stream guidance strength block_tokens continuations drop_below role content response extra"
).split()
ODD: tuple[Any, ...] = (
    None, True, 0, -1, 1, 2**63, 10**400, 0.5, float("nan"), float("inf"), -0.0, 1e308, "", " ", "a", "\0", "x" * 5000,
    "\u2028", "token", "block", "user", [], {}, [[]], [None], [{"role": "user", "content": "hi"}], ["a", "b"], [1.0] * 4,
    {"coefficients": [1, 2, 3, 4], "guidance": "block", "block_tokens": 1, "continuations": 64},
)  # fmt: skip
SEEDS = range(10)
BODIES = 200


def odd(rng: random.Random, depth: int = 0) -> Any:
    if depth > 3 or rng.random() < 0.6:
        return rng.choice(ODD)
    if rng.random() < 0.5:
        return [odd(rng, depth + 1) for _ in range(rng.randrange(4))]
    return {rng.choice(FIELDS): odd(rng, depth + 1) for _ in range(rng.randrange(6))}


def body(rng: random.Random) -> bytes:
    given: Any = {"prompt": "hello", "max_tokens": 4, "n": 2, "seed": 1} if rng.random() < 0.5 else {}
    for _ in range(rng.randrange(4)):
        given[rng.choice(FIELDS)] = odd(rng)
    kind = rng.random()
    if kind < 0.05:
        return b"[" * rng.choice((10, 100_000)) + rng.randbytes(20)
    if kind < 0.10:
        return rng.randbytes(rng.randrange(200))
    text = json.dumps(odd(rng) if kind < 0.2 else given)
    return text[: rng.randrange(len(text) + 1)].encode() if kind < 0.3 else text.encode()


@pytest.mark.parametrize("seed", SEEDS)
async def test_a_storm_of_nonsense_takes_no_slot_and_breaks_nothing(
    http: httpx2.AsyncClient, served: ServedEngine, seed: int
) -> None:
    rng = random.Random(seed)
    statuses = set()
    for _ in range(BODIES):
        headers = {"Content-Type": rng.choice(("application/json", "application/json", "text/plain"))}
        response = await http.post(rng.choice(PATHS), content=body(rng), headers=headers)
        statuses.add(response.status_code)
    await until(lambda: served.idle)
    assert statuses <= {200, 204, 400, 413, 422}
    assert (await http.post("/v1/candidates", json={"prompt": "hello", "n": 2})).status_code == 200


CASES: list[tuple[str, str, bytes, int, str]] = [
    ("unknown field", "/v1/candidates", b'{"prompt": "x", "colour": 1}', 422, "/colour"),
    ("NaN", "/v1/candidates", b'{"prompt": "x", "temperature": NaN}', 422, "/temperature"),
    ("NaN among coefficients", "/v1/guided", b'{"prompt": "x", "coefficients": [1, NaN, 0, 0]}', 422, "/coefficients/1"),
    ("a coefficient in quotes", "/v1/guided", b'{"prompt": "x", "coefficients": ["1"]}', 422, "/coefficients/0"),
    ("no candidates", "/v1/candidates", b'{"prompt": "x", "n": 0}', 422, "/n"),
    ("too many candidates", "/v1/candidates", b'{"prompt": "x", "n": 257}', 422, "/n"),
    ("no time", "/v1/candidates", b'{"prompt": "x", "timeout_seconds": 0}', 422, "/timeout_seconds"),
    ("dropping everything", "/v1/candidates", b'{"prompt": "x", "steering": {"coefficients": [1], "drop_below": 1}}', 422, "/steering/drop_below"),
    ("an unknown guidance", "/v1/candidates", b'{"prompt": "x", "steering": {"coefficients": [1], "guidance": "magic"}}', 422, "/steering/guidance"),
    ("coefficients twice", "/v1/guided", b'{"prompt": "x", "coefficients": [1], "steering": {"coefficients": [1]}}', 422, "/coefficients"),
    ("nothing to read", "/v1/basis-rewards", b'{"prompt": "x"}', 422, "/responses"),
    ("responses and rows", "/v1/basis-rewards", b'{"prompt": "x", "responses": [], "rows": []}', 422, "/responses"),
    ("a prompt beside rows", "/v1/basis-rewards", b'{"prompt": "x", "rows": []}', 422, "/prompt"),
    ("a row without a prompt", "/v1/basis-rewards", b'{"rows": [{"response": "y"}]}', 422, "/rows/0/prompt"),
    ("a lone surrogate", "/v1/basis-rewards", b'{"prompt": "x", "responses": ["\\ud800"]}', 422, "/responses/0"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("path", "content", "status", "pointer"), [case[1:] for case in CASES], ids=[case[0] for case in CASES]
)
async def test_a_body_that_makes_no_sense_is_refused_by_the_name_of_its_field(
    http: httpx2.AsyncClient, path: str, content: bytes, status: int, pointer: str
) -> None:
    response = await http.post(path, content=content, headers={"Content-Type": "application/json"})
    problem = response.json()
    assert (response.status_code, problem["errors"][0]["pointer"]) == (status, pointer), problem
    assert response.headers["content-type"] == "application/problem+json"


async def test_a_body_over_eight_mebibytes_is_413(http: httpx2.AsyncClient) -> None:
    response = await http.post("/v1/candidates", json={"prompt": "x" * 9_000_000})
    assert (response.status_code, response.json()["code"]) == (413, "body_too_large")
