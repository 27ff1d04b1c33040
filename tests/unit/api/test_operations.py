import asyncio
from typing import Any

import httpx2
import pytest
from fastapi import FastAPI

from app.config import Settings
from app.errors import StorageUnavailable
from app.main import create_app
from tests.fakes.served import serving

pytestmark = pytest.mark.anyio


async def test_readiness_lists_its_checks(http: httpx2.AsyncClient) -> None:
    body = (await http.get("/readyz")).json()
    assert body["ready"]
    assert [check["name"] for check in body["checks"]] == ["database", "schema", "engine", "basis"]


async def test_a_check_that_fails_makes_the_service_unready_and_says_why(
    http: httpx2.AsyncClient, app: FastAPI, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def down() -> str:
        raise StorageUnavailable("the database is down")

    monkeypatch.setitem(app.state.services.readiness, "database", down)
    response = await http.get("/readyz")
    assert response.status_code == 503
    assert response.json()["checks"][0] == {"name": "database", "ok": False, "detail": "the database is down"}


async def test_liveness_looks_at_nothing(http: httpx2.AsyncClient) -> None:
    assert (await http.get("/livez")).json() == {"status": "ok"}


async def test_metrics_label_requests_by_route_template_not_by_what_callers_send(
    http: httpx2.AsyncClient, user: str
) -> None:
    await http.get(f"/v1/users/{user}")
    await http.get("/no/such/route/secret-word")
    await http.request("BREW", "/livez")
    text = (await http.get("/metrics")).text
    assert 'route="/v1/users/{user_id}",status_class="2xx"' in text
    assert user not in text
    assert "secret-word" not in text
    assert "BREW" not in text


async def test_metrics_tell_what_the_engine_does(http: httpx2.AsyncClient) -> None:
    await http.post("/v1/generations", json={"prompt": "hello"})
    values = dict(
        line.split() for line in (await http.get("/metrics")).text.splitlines() if line.startswith("attune_engine")
    )
    assert float(values["attune_engine_tokens_total"]) > 0
    assert float(values["attune_engine_queue_length"]) == 0


async def test_two_applications_keep_their_metrics_apart(app: FastAPI) -> None:
    other = create_app(Settings(engine={"backend": "scripted"}))  # type: ignore[arg-type]
    assert other.state.metrics.registry is not app.state.metrics.registry


@pytest.mark.parametrize("path", ["/docs", "/redoc", "/openapi.json"])
async def test_the_documentation_is_served(http: httpx2.AsyncClient, path: str) -> None:
    assert (await http.get(path)).status_code == 200


async def test_a_request_id_that_was_sent_comes_back(http: httpx2.AsyncClient) -> None:
    response = await http.get("/v1/users/nobody", headers={"X-Request-Id": "trace-42"})
    assert response.headers["x-request-id"] == response.json()["request_id"] == "trace-42"


async def test_a_request_id_that_could_break_a_log_is_replaced(http: httpx2.AsyncClient) -> None:
    response = await http.get("/livez", headers={"X-Request-Id": 'a"b c'})
    assert response.headers["x-request-id"].startswith("req_")


async def test_an_error_nobody_expected_is_a_500_that_tells_no_details(
    http: httpx2.AsyncClient, app: FastAPI, user: str
) -> None:
    app.state.services.respond.decoder.fail_next(ZeroDivisionError("secret detail"))
    response = await http.post("/v1/generations", json={"prompt": "hello"})
    assert (response.status_code, response.json()["code"]) == (500, "internal_error")
    assert "secret" not in response.text
    assert response.headers["x-request-id"] == response.json()["request_id"]


async def test_the_engine_stops_when_the_client_leaves(
    http: httpx2.AsyncClient, app: FastAPI, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = app.state.services.respond.decoder
    monkeypatch.setattr(engine, "latency_seconds", 30.0)
    sent: list[Any] = []
    messages = [{"type": "http.request", "body": b'{"prompt": "hello"}'}, {"type": "http.disconnect"}]

    async def receive() -> Any:
        await asyncio.sleep(0.02)
        return messages.pop(0)

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": "POST",
        "path": "/v1/generations",
        "raw_path": b"/v1/generations",
        "query_string": b"",
        "headers": [(b"content-type", b"application/json")],
        "scheme": "http",
        "server": ("attune", 80),
    }
    async with asyncio.timeout(5):
        await app(scope, receive, send)
    assert (engine.rows, engine.queue_length) == (0, 0)


async def test_with_a_token_set_only_its_bearers_reach_v1(
    anyio_backend: str, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    monkeypatch.chdir(tmp_path_factory.mktemp("guarded"))
    token = "0123456789abcdef"
    app = create_app(Settings(engine={"backend": "scripted"}, auth={"token": token}))  # type: ignore[arg-type]
    async with serving(app) as http:
        statuses = [
            (await http.get("/v1/models", headers=headers)).status_code
            for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": f"Bearer {token}"})
        ]
        refused = await http.get("/v1/users/ada")
        assert statuses == [401, 401, 200]
        assert (refused.json()["code"], refused.headers["www-authenticate"]) == ("unauthorized", "Bearer")
        assert (await http.get("/readyz")).status_code == 200
