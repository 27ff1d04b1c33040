"""Modes of generation over HTTP, and their streams."""

import asyncio
import json
from typing import Any

import httpx2
import pytest
from fastapi import FastAPI

from app.entities import FrontierPoint
from app.errors import EngineOverloaded

pytestmark = pytest.mark.anyio

CHAT: dict[str, Any] = {
    "model": "scripted:personal",
    "messages": [{"role": "user", "content": "hello"}],
    "seed": 1,
    "personalization": {"mode": "guided"},
}
GUIDED: dict[str, Any] = {"prompt": "hello", "seed": 1, "personalization": {"mode": "guided"}}


def data_of(text: str) -> list[Any]:
    """The JSON of every event."""
    lines = [line.removeprefix("data: ") for line in text.split("\n") if line.startswith("data: ")]
    return [json.loads(line) for line in lines if line != "[DONE]"]


async def asked(http: httpx2.AsyncClient, **personalization: object) -> dict[str, Any]:
    body = {"prompt": "hello", "seed": 1, "personalization": personalization}
    found: dict[str, Any] = (await http.post("/v1/generations", json=body)).json()["personalization"]
    return found


async def test_a_guided_generation_says_how_it_was_made(http: httpx2.AsyncClient) -> None:
    found = await asked(http, mode="guided", guidance="block", strength=0.5)
    assert (found["mode_used"], found["guidance"], found["strength"]) == ("guided", "block", 0.5)
    assert found["tokens_discarded"] > 0
    assert found["margin_vs_generic"] is None
    assert "explain: full" in found["note"]


async def test_a_plain_generation_is_not_steered(http: httpx2.AsyncClient) -> None:
    found = await asked(http, mode="off")
    assert (found["guidance"], found["strength"], found["kl_bound"], found["reward"]) == (None, 0.0, None, None)


async def test_early_stopping_and_soft_choice_are_told(http: httpx2.AsyncClient) -> None:
    found = await asked(http, mode="best_of_n", early_stopping=True, choice_temperature=1.0)
    assert found["candidates_dropped"] > 0
    assert 0.0 < found["tokens_discarded"] < found["tokens_generated"]
    assert 0.0 <= found["soft_kl"] <= found["kl_bound"] + 1.0


async def test_usage_counts_all_that_was_generated(http: httpx2.AsyncClient) -> None:
    body = {**GUIDED, "personalization": {"mode": "guided", "guidance": "block"}}
    usage = (await http.post("/v1/generations", json=body)).json()["usage"]
    details = usage["completion_tokens_details"]
    assert usage["completion_tokens"] == sum(details.values())
    assert details["rejected_candidate_tokens"] == 3 * details["accepted_candidate_tokens"]  # four blocks, one taken
    assert usage["prompt_tokens_details"] == {"cached_tokens": 0}


async def test_auto_gives_its_reason(http: httpx2.AsyncClient, app: FastAPI, monkeypatch: pytest.MonkeyPatch) -> None:
    point = FrontierPoint("token", "guided", 1, "token", 0.0, 1.0, 0.7)
    monkeypatch.setitem(app.state.services.respond.belief.registry.__dict__, "frontier", (point,))
    found = await asked(http, latency_budget_ms=500)
    assert found["mode_used"] == "guided"
    assert found["reason"] == "token: win rate 0.70, predicted 0 ms of a budget of 500 ms."


@pytest.mark.parametrize(
    ("path", "body", "field"),
    [("/v1/generations", GUIDED, "/personalization/mode"), ("/v1/chat/completions", CHAT, "personalization.mode")],
)
@pytest.mark.parametrize("stream", [False, True])
async def test_guidance_that_the_engine_does_not_have_is_a_400_with_the_field(
    http: httpx2.AsyncClient,
    app: FastAPI,
    monkeypatch: pytest.MonkeyPatch,
    path: str,
    body: dict[str, Any],
    field: str,
    stream: bool,
) -> None:
    monkeypatch.setattr(app.state.services.respond.decoder, "steering", frozenset())
    response = await http.post(path, json={**body, "stream": stream})
    told = response.json()
    named = told["errors"][0]["pointer"] if "errors" in told else told["error"]["param"]
    assert (response.status_code, named) == (400, field)


@pytest.mark.parametrize(
    "options",
    [
        {"mode": "sideways"},
        {"guidance": "none"},
        {"early_stopping": "yes"},
        {"choice_temperature": -1},
        {"latency_budget_ms": 0},
        {"latency_budget_ms": 1.5},
    ],
)
async def test_options_out_of_range_are_refused(http: httpx2.AsyncClient, options: dict[str, Any]) -> None:
    response = await http.post("/v1/generations", json={"prompt": "hello", "personalization": options})
    assert response.status_code == 422
    assert response.json()["errors"][0]["pointer"] == f"/personalization/{next(iter(options))}"


async def test_a_guided_stream_says_the_same_as_the_whole(http: httpx2.AsyncClient) -> None:
    whole = (await http.post("/v1/generations", json=GUIDED)).json()
    *deltas, result = data_of((await http.post("/v1/generations", json={**GUIDED, "stream": True})).text)
    assert "".join(delta["text"] for delta in deltas) == whole["text"]
    assert {**result, "id": ""} == {**whole, "id": ""}


async def test_a_guided_chat_stream_has_the_chunks_that_openai_s_clients_expect(http: httpx2.AsyncClient) -> None:
    whole = (await http.post("/v1/chat/completions", json=CHAT)).json()
    options = {"stream": True, "stream_options": {"include_usage": True}}
    response = await http.post("/v1/chat/completions", json={**CHAT, **options})
    first, *deltas, last, usage = data_of(response.text)
    assert first["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    text = "".join(chunk["choices"][0]["delta"]["content"] for chunk in deltas)
    assert text == whole["choices"][0]["message"]["content"]
    assert (last["choices"][0]["delta"], last["choices"][0]["finish_reason"]) == ({}, "stop")
    assert (usage["choices"], usage["usage"]) == ([], whole["usage"])
    assert usage["personalization"] == whole["personalization"]
    assert len({chunk["id"] for chunk in (first, *deltas, last, usage)}) == 1
    assert response.text.endswith("data: [DONE]\n\n")


@pytest.mark.parametrize(("told", "calls"), [(True, 2), (False, 1)])
async def test_a_chat_stream_draws_a_plain_answer_only_where_its_comparison_is_told(
    http: httpx2.AsyncClient, app: FastAPI, told: bool, calls: int
) -> None:
    engine = app.state.services.respond.decoder
    before = engine.requests
    options = {"stream": True, "stream_options": {"include_usage": told}}
    personalization = {"mode": "guided", "explain": "full"}
    await http.post("/v1/chat/completions", json={**CHAT, **options, "personalization": personalization})
    assert engine.requests == before + calls


async def test_a_plain_answer_that_could_not_be_drawn_is_told(
    http: httpx2.AsyncClient, app: FastAPI, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = app.state.services.respond.decoder
    draw = engine.candidates

    async def overloaded_for_plain_answers(*arguments: Any, **options: Any) -> Any:
        if options.get("steering") is None:
            raise EngineOverloaded(3)
        return await draw(*arguments, **options)

    monkeypatch.setattr(engine, "candidates", overloaded_for_plain_answers)
    found = await asked(http, mode="guided", explain="full")
    assert found["note"].startswith("The plain answer to compare with could not be drawn: 3 requests are waiting")


async def test_responses_are_counted_by_mode_streamed_or_not(http: httpx2.AsyncClient) -> None:
    before = await metric(http, 'attune_responses_total{mode="guided"}')
    await http.post("/v1/generations", json=GUIDED)
    await http.post("/v1/generations", json={**GUIDED, "stream": True})
    assert await metric(http, 'attune_responses_total{mode="guided"}') == before + 2


async def test_the_time_until_a_stream_begins_is_measured_once_a_stream(http: httpx2.AsyncClient) -> None:
    before = await metric(http, "attune_time_to_first_piece_seconds_count")
    await http.post("/v1/generations", json={**GUIDED, "stream": True})
    await http.post("/v1/chat/completions", json={**CHAT, "stream": True})
    assert await metric(http, "attune_time_to_first_piece_seconds_count") == before + 2


async def test_every_token_has_one_fate(http: httpx2.AsyncClient) -> None:
    async def tokens() -> float:
        fates = ("accepted", "rejected", "discarded")
        return sum([await metric(http, f'attune_response_tokens_total{{fate="{fate}"}}') for fate in fates])

    before = await tokens()
    body = {"prompt": "hello", "personalization": {"mode": "best_of_n", "early_stopping": True}}
    usage = (await http.post("/v1/generations", json=body)).json()["usage"]
    assert await tokens() == before + usage["completion_tokens"]


async def metric(http: httpx2.AsyncClient, name: str) -> float:
    lines = (await http.get("/metrics")).text.splitlines()
    return float(next(line for line in lines if line.startswith(name)).split()[-1])


@pytest.mark.parametrize("path", ["/v1/generations", "/v1/chat/completions"])
async def test_decoding_ends_when_the_reader_of_a_stream_leaves(
    http: httpx2.AsyncClient, app: FastAPI, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    engine = app.state.services.respond.decoder
    monkeypatch.setattr(engine, "token_seconds", 0.05)
    before, some = engine.tokens_generated, asyncio.Event()
    body = json.dumps({**(GUIDED if path == "/v1/generations" else CHAT), "stream": True}).encode()
    messages = [{"type": "http.request", "body": body}]

    async def receive() -> Any:
        if messages:
            return messages.pop()
        await some.wait()
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        if message.get("body", b"").strip():
            some.set()

    async with asyncio.timeout(5):
        await app(_scope(path), receive, send)
    assert some.is_set()
    assert engine.rows == 0
    assert 1 <= engine.tokens_generated - before <= 3  # of the twenty and more that the response would have


def _scope(path: str) -> dict[str, Any]:
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": "POST",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "headers": [(b"content-type", b"application/json")],
        "scheme": "http",
        "server": ("attune", 80),
    }
