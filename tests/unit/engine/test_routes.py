import json
from typing import Any

import httpx2
import pytest

from app.engine.application import create_engine_app
from app.engine.host import Loaded
from app.errors import EngineTimeout, NonFiniteReward
from app.generation.scripted import ScriptedEngine
from tests.unit.engine.conftest import SIZE, ServedEngine

pytestmark = pytest.mark.anyio

ASK: dict[str, Any] = {"prompt": "What should I cook?", "max_tokens": 12, "seed": 5}
TASTE = [1.0, -0.5, 0.25, 0.0]


def events(text: str) -> list[tuple[str, Any]]:
    blocks = [block.splitlines() for block in text.strip().split("\n\n") if not block.startswith(":")]
    return [(name.removeprefix("event: "), json.loads(data.removeprefix("data: "))) for name, data in blocks]


async def test_candidates_come_with_one_row_of_rewards_each(http: httpx2.AsyncClient) -> None:
    answer = (await http.post("/v1/candidates", json={**ASK, "n": 3})).json()
    assert [len(one["basis_rewards"]) for one in answer["candidates"]] == [SIZE] * 3


async def test_a_seed_repeats_its_candidates(http: httpx2.AsyncClient) -> None:
    first, again = [(await http.post("/v1/candidates", json={**ASK, "n": 2})).json() for _ in range(2)]
    assert first == again


async def test_without_a_seed_one_is_drawn_and_told(http: httpx2.AsyncClient) -> None:
    body = {name: value for name, value in ASK.items() if name != "seed"}
    drawn = (await http.post("/v1/candidates", json=body)).json()
    repeated = (await http.post("/v1/candidates", json={**body, "seed": drawn["seed"]})).json()
    assert repeated["candidates"] == drawn["candidates"]


async def test_messages_are_a_prompt_too(http: httpx2.AsyncClient) -> None:
    turns = [{"role": "user", "content": ASK["prompt"]}]
    body = {**ASK, "messages": turns}
    del body["prompt"]
    assert (await http.post("/v1/candidates", json=body)).json() == (await http.post("/v1/candidates", json=ASK)).json()


async def test_rows_are_rewarded_in_their_order_whatever_their_prompts(http: httpx2.AsyncClient) -> None:
    rows = [("a", "soup rice"), ("b", "tea"), ("a", "soup rice"), ("a", "bread")]
    body = {"rows": [{"prompt": prompt, "response": response} for prompt, response in rows]}
    found = (await http.post("/v1/basis-rewards", json=body)).json()["basis_rewards"]
    alone = [
        (await http.post("/v1/basis-rewards", json={"prompt": prompt, "responses": [response]})).json()
        for prompt, response in rows
    ]
    assert found == [one["basis_rewards"][0] for one in alone]


async def test_a_guided_answer_is_streamed_in_pieces_that_are_its_text(http: httpx2.AsyncClient) -> None:
    response = await http.post("/v1/guided", json={**ASK, "coefficients": TASTE})
    told = events(response.text)
    assert response.headers["content-type"].startswith("text/event-stream")
    assert "".join(data["text"] for name, data in told if name == "delta") == told[-1][1]["candidates"][0]["text"]


async def test_without_streaming_a_guided_answer_is_the_same_json(http: httpx2.AsyncClient) -> None:
    body = {**ASK, "coefficients": TASTE}
    whole = (await http.post("/v1/guided", json={**body, "stream": False})).json()
    assert whole == events((await http.post("/v1/guided", json=body)).text)[-1][1]


async def test_coefficients_alone_guide_token_by_token(http: httpx2.AsyncClient) -> None:
    steering = {"coefficients": TASTE, "guidance": "token"}
    short = (await http.post("/v1/guided", json={**ASK, "coefficients": TASTE, "stream": False})).json()
    long = (await http.post("/v1/guided", json={**ASK, "steering": steering, "stream": False})).json()
    assert short == long


async def test_strength_zero_is_plain_decoding(http: httpx2.AsyncClient) -> None:
    steering = {"coefficients": TASTE, "guidance": "token", "strength": 0}
    steered = (await http.post("/v1/candidates", json={**ASK, "n": 4, "steering": steering})).json()
    assert steered == (await http.post("/v1/candidates", json={**ASK, "n": 4})).json()


async def test_an_error_after_the_first_piece_is_an_event(http: httpx2.AsyncClient, served: ServedEngine) -> None:
    served.engine.token_seconds = 0.2
    response = await http.post("/v1/guided", json={**ASK, "timeout_seconds": 0.9})
    name, problem = events(response.text)[-1]
    assert (response.status_code, name, problem["code"]) == (200, "error", "engine_timeout")
    told = (await http.get("/metrics")).text
    assert 'attune_engine_stream_errors_total{code="engine_timeout"} 1.0' in told


async def test_an_error_before_the_first_piece_keeps_its_status(http: httpx2.AsyncClient, served: ServedEngine) -> None:
    served.engine.fail_next(EngineTimeout(1))
    response = await http.post("/v1/guided", json=ASK)
    assert (response.status_code, response.json()["code"]) == (503, "engine_timeout")


async def test_a_failure_of_the_numbers_is_a_500_with_its_code(http: httpx2.AsyncClient, served: ServedEngine) -> None:
    served.engine.fail_next(NonFiniteReward("as scripted"))
    response = await http.post("/v1/candidates", json=ASK)
    assert (response.status_code, response.json()["code"]) == (500, "non_finite_reward")


@pytest.mark.parametrize("coefficients", [[1.0], [1.0] * 5])
async def test_coefficients_of_another_basis_are_refused(http: httpx2.AsyncClient, coefficients: list[float]) -> None:
    body = {**ASK, "steering": {"coefficients": coefficients, "guidance": "token"}}
    problem = (await http.post("/v1/candidates", json=body)).json()
    assert (problem["code"], problem["errors"][0]["pointer"]) == ("invalid_input", "/steering/coefficients")


async def test_coefficients_alone_are_refused_by_their_own_name(http: httpx2.AsyncClient) -> None:
    problem = (await http.post("/v1/guided", json={**ASK, "coefficients": [1.0]})).json()
    assert problem["errors"][0]["pointer"] == "/coefficients"


async def test_a_deadline_holds_for_all_rows_together(http: httpx2.AsyncClient, served: ServedEngine) -> None:
    served.engine.latency_seconds = 0.15
    rows = [{"prompt": f"prompt {number}", "response": "tea"} for number in range(8)]
    response = await http.post("/v1/basis-rewards", json={"rows": rows, "timeout_seconds": 0.4})
    assert (response.status_code, response.json()["code"]) == (503, "engine_timeout")
    assert served.idle


async def test_a_request_for_another_basis_does_no_work(http: httpx2.AsyncClient, served: ServedEngine) -> None:
    response = await http.post("/v1/candidates", json={**ASK, "basis_version": "another"})
    assert (response.status_code, response.json()["code"]) == (503, "engine_unreachable")
    assert served.engine.requests == 0


async def test_an_engine_that_cannot_guide_says_so(http: httpx2.AsyncClient, served: ServedEngine) -> None:
    served.engine.steering = frozenset({"early_stopping"})
    response = await http.post("/v1/guided", json={**ASK, "coefficients": TASTE})
    assert (response.status_code, response.json()["code"]) == (400, "guidance_unavailable")


async def test_models_tell_the_basis_its_size_and_what_can_be_done(http: httpx2.AsyncClient) -> None:
    (model,) = (await http.get("/v1/models")).json()["data"]
    assert (model["id"], model["bases"]) == ("scripted", [{"version": "scripted", "K": SIZE}])
    assert model["steering"] == ["block", "early_stopping", "token"]


async def test_metrics_have_no_label_that_a_caller_chose(http: httpx2.AsyncClient) -> None:
    await http.post("/v1/candidates", json={**ASK, "prompt": "secret-word", "tenant": "secret-tenant"})
    text = (await http.get("/metrics")).text
    assert 'attune_engine_basis_reward_count{index="3"} 1.0' in text
    assert "secret" not in text


async def test_metrics_count_what_was_generated_and_discarded(http: httpx2.AsyncClient) -> None:
    steering = {"coefficients": TASTE, "drop_below": 0.4}
    answer = (await http.post("/v1/candidates", json={**ASK, "n": 8, "max_tokens": 60, "steering": steering})).json()
    lines = (await http.get("/metrics")).text.splitlines()
    values = dict(line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
    assert float(values["attune_engine_tokens_total"]) == answer["usage"]["completion_tokens"]
    assert float(values["attune_engine_discarded_tokens_total"]) == answer["usage"]["discarded_tokens"] > 0


async def test_with_a_token_set_only_its_bearers_reach_the_work(anyio_backend: str) -> None:
    async def load(_observer: object) -> Loaded:
        return Loaded(ScriptedEngine(size=SIZE), SIZE, "scripted")

    app = create_engine_app(load, token="0123456789abcdef")
    async with app.router.lifespan_context(app):
        transport = httpx2.ASGITransport(app=app)
        async with httpx2.AsyncClient(transport=transport, base_url="http://engine") as http:
            while (await http.get("/readyz")).status_code != 200:
                pass
            paths = ["/v1/candidates", "/v1/basis-rewards", "/v1/guided", "/v1/forget"]
            assert {(await http.post(path, json=ASK)).status_code for path in paths} == {401}
            headers = {"Authorization": "Bearer 0123456789abcdef"}
            assert (await http.post("/v1/candidates", json=ASK, headers=headers)).status_code == 200
