import json

import httpx2
import pytest
from fastapi import FastAPI

from app.errors import EngineOverloaded

pytestmark = pytest.mark.anyio


async def test_a_generation_has_every_field_of_the_contract(http: httpx2.AsyncClient, user: str) -> None:
    options = {"user_id": user, "prompt": "hello", "seed": 1, "personalization": {"explain": "full"}}
    body = (await http.post("/v1/generations", json=options)).json()
    assert {"id", "text", "personalization", "usage"} <= set(body)
    assert set(body["personalization"]["reward"]) == {"mean", "std"}
    assert len(body["personalization"]["candidates"]) == 16
    assert set(body["personalization"]["explanation"][0]) == {
        "label",
        "coefficient",
        "basis_reward",
        "contribution",
    }


async def test_the_text_is_the_chosen_candidate(http: httpx2.AsyncClient, user: str) -> None:
    options = {"user_id": user, "prompt": "hello", "personalization": {"explain": "full"}}
    body = (await http.post("/v1/generations", json=options)).json()
    choice = body["personalization"]
    assert body["text"] == choice["candidates"][choice["chosen"]]["text"]


async def test_a_prompt_and_the_same_prompt_as_messages_give_the_same_text(http: httpx2.AsyncClient) -> None:
    message = {"role": "user", "content": "hello"}
    bodies = [{"prompt": "hello"}, {"messages": [message]}, {"prompt": [message]}]
    texts = {(await http.post("/v1/generations", json={**body, "seed": 1})).json()["text"] for body in bodies}
    assert len(texts) == 1


async def test_a_stream_brings_the_text_word_by_word_and_then_the_result(http: httpx2.AsyncClient) -> None:
    options = {"prompt": "hello", "seed": 1, "stream": True}
    response = await http.post("/v1/generations", json=options)
    events = [block.split("\n", 1) for block in response.text.strip().split("\n\n")]
    data = [json.loads(lines[1].removeprefix("data: ")) for lines in events]
    assert response.headers["content-type"].startswith("text/event-stream")
    assert [lines[0] for lines in events] == ["event: delta"] * (len(events) - 1) + ["event: result"]
    assert "".join(item["text"] for item in data[:-1]) == data[-1]["text"]


async def test_an_error_before_the_first_event_keeps_its_status(http: httpx2.AsyncClient) -> None:
    options = {"prompt": "word " * 600, "stream": True}
    response = await http.post("/v1/generations", json=options)
    assert (response.status_code, response.json()["code"]) == (422, "prompt_too_long")


async def test_an_overloaded_engine_is_503_with_a_time_to_retry(http: httpx2.AsyncClient, app: FastAPI) -> None:
    app.state.services.respond.decoder.fail_next(EngineOverloaded(7))
    response = await http.post("/v1/generations", json={"prompt": "hello"})
    assert (response.status_code, response.headers["retry-after"]) == (503, "2")
    assert response.json()["code"] == "engine_overloaded"


async def test_ranking_returns_the_same_responses_best_first(http: httpx2.AsyncClient, user: str) -> None:
    texts = ["warm gentle evening", "quick plain list", "water walk"]
    body = (await http.post("/v1/rank", json={"user_id": user, "prompt": "hi", "responses": texts})).json()
    assert sorted(item["text"] for item in body["responses"]) == sorted(texts)
    means = [item["reward"]["mean"] for item in body["responses"]]
    assert means == sorted(means, reverse=True)


@pytest.mark.parametrize("wrap", [lambda item: item, lambda item: [item, item], lambda item: {"comparisons": [item]}])
async def test_comparisons_are_taken_one_by_one_or_together(http: httpx2.AsyncClient, user: str, wrap: object) -> None:
    item = {"user_id": user, "prompt": "hello", "first": "good day", "second": "hi", "preferred": "tie"}
    response = await http.post("/v1/comparisons", json=wrap(item))  # type: ignore[operator]
    assert response.status_code == 201
    assert {row["user_id"] for row in response.json()["comparisons"]} == {user}
