"""``attune engine`` as operators run it, alone and with ``attune serve`` in front."""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.fakes.process import EngineProcess, ServedProcess, ThinProcess
from tests.fakes.tiny_model import tiny_settings

TOKEN = "0123456789abcdef"
SLOW = {"ATTUNE_ENGINE__SCRIPTED_TOKEN_SECONDS": "0.1"}
GENERATE: dict[str, Any] = {"user_id": "ada", "prompt": "How can I sleep better?", "max_tokens": 24, "seed": 11}
WAYS: list[dict[str, Any]] = [
    {"mode": "off"},
    {"mode": "best_of_n", "n_candidates": 8},
    {"mode": "best_of_n", "n_candidates": 4, "explain": "full"},
    {"mode": "guided"},
    {"mode": "guided", "n_candidates": 4},
]


def refused(directory: Path, *arguments: str, **environment: str) -> str:
    """The last line that an engine says which must not start."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("ATTUNE_")}
    done = subprocess.run(
        [sys.executable, "-m", "app.cli", "engine", "--port", "0", *arguments],
        check=False,
        cwd=directory,
        env={**kept, "OMP_NUM_THREADS": "1", **environment},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    return done.stderr.splitlines()[-1]


def answers(address: str) -> list[dict[str, Any]]:
    """What a new person with one answered question is told in every way, ids and times left out."""
    with httpx2.Client(base_url=address, timeout=60) as http:
        http.put("/v1/users/ada", json={})
        comparison = {"user_id": "ada", "prompt": "Hi", "first": "Hello there.", "second": "Yo.", "preferred": "first"}
        http.post("/v1/comparisons", json=comparison).raise_for_status()
        told = [
            http.post("/v1/generations", json={**GENERATE, "personalization": way}).raise_for_status() for way in WAYS
        ]
        ranking = http.post("/v1/rank", json={"user_id": "ada", "prompt": "Hi", "responses": ["One.", "Two words."]})
        return [{name: value for name, value in one.json().items() if name != "id"} for one in (*told, ranking)]


def test_two_processes_answer_like_one(tmp_path: Path) -> None:
    bundled = {"ATTUNE_ENGINE__BACKEND": "transformers", "ATTUNE_ENGINE__THREADS": "1"}
    for name in ("engine", "thin", "whole"):
        (tmp_path / name).mkdir()
    with EngineProcess(tmp_path / "engine", ATTUNE_ENGINE__TOKEN=TOKEN, **bundled) as engine:
        remote = {"ATTUNE_ENGINE_URL": engine.address, "ATTUNE_ENGINE__TOKEN": TOKEN, **bundled}
        with ThinProcess(tmp_path / "thin", **remote) as service:
            found = answers(service.address)
    with ServedProcess(tmp_path / "whole", **bundled) as service:
        assert found == answers(service.address)


@pytest.fixture
def slow_engine(tmp_path: Path) -> Iterator[EngineProcess]:
    with EngineProcess(tmp_path, **SLOW) as engine:
        yield engine


def test_a_signal_lets_a_running_stream_finish(slow_engine: EngineProcess) -> None:
    events: list[str] = []
    with httpx2.Client(base_url=slow_engine.address, timeout=60) as http:
        body = {"prompt": "hello", "max_tokens": 20, "seed": 3}
        with http.stream("POST", "/v1/guided", json=body) as response:
            process = None
            for event in httpx2.EventSource(response):
                events.append(event.event)
                if process is None:
                    process = slow_engine.terminate()
        assert process is not None
        process.wait(timeout=30)
    assert events[-1] == "result"
    assert process.returncode in {0, -signal.SIGTERM}


def test_after_a_signal_new_work_is_refused_while_old_work_is_finished(slow_engine: EngineProcess) -> None:
    body = {"prompt": "hello", "max_tokens": 40, "seed": 3}
    with httpx2.Client(base_url=slow_engine.address, timeout=60) as http:
        with http.stream("POST", "/v1/guided", json=body) as response:
            events = iter(httpx2.EventSource(response))
            next(events)
            process = slow_engine.terminate()
            next(events)
            refusal = httpx2.post(f"{slow_engine.address}/v1/candidates", json=body)
            assert (refusal.status_code, refusal.json()["code"]) == (503, "unavailable")
            assert httpx2.get(f"{slow_engine.address}/readyz").status_code == 503
            assert [event.event for event in events][-1] == "result"
    process.wait(timeout=30)


def test_a_stream_that_outlasts_the_shutdown_is_cut(tmp_path: Path) -> None:
    slow = {"ATTUNE_ENGINE__SCRIPTED_SECONDS": "300", "ATTUNE_SHUTDOWN_SECONDS": "1"}
    with EngineProcess(tmp_path, **slow, ATTUNE_ENGINE__TIMEOUT_SECONDS="300") as engine:
        with httpx2.Client(base_url=engine.address, timeout=60) as http:
            with http.stream("POST", "/v1/guided", json={"prompt": "hello"}):
                assert engine.terminate().wait(timeout=20) is not None


def test_an_engine_that_everybody_can_reach_needs_a_token(tmp_path: Path) -> None:
    line = refused(tmp_path, "--host", "0.0.0.0", ATTUNE_ENGINE__BACKEND="scripted")
    assert line.startswith("attune: ")
    assert "ATTUNE_ENGINE__TOKEN" in line


def test_a_basis_for_another_model_stops_the_engine_in_one_line(tmp_path: Path) -> None:
    settings = tiny_settings(tmp_path)
    (tmp_path / "other").mkdir()
    other = tiny_settings(tmp_path / "other")
    weights = tmp_path / "other" / "model" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x01")
    line = refused(tmp_path, **{**settings, "ATTUNE_ENGINE__MODEL": other["ATTUNE_ENGINE__MODEL"]})
    assert line.startswith("attune: Basis ")
    assert "was made for model" in line


def test_a_service_refuses_an_engine_with_another_basis(tmp_path: Path) -> None:
    with EngineProcess(tmp_path, **tiny_settings(tmp_path)) as engine:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("ATTUNE_")}
        done = subprocess.run(
            [sys.executable, "-m", "app.cli", "serve", "--port", "0"],
            check=False,
            cwd=tmp_path,
            env={**kept, "ATTUNE_ENGINE_URL": engine.address},
            capture_output=True,
            text=True,
            timeout=60,
        )
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith(f"attune: The engine at {engine.address} serves basis ")


def test_a_stream_of_the_service_comes_through_from_the_engine(tmp_path: Path) -> None:
    (tmp_path / "service").mkdir()
    with (
        EngineProcess(tmp_path) as engine,
        ThinProcess(tmp_path / "service", ATTUNE_ENGINE_URL=engine.address) as service,
    ):
        body = {"prompt": "hello", "seed": 3, "stream": True, "personalization": {"mode": "off"}}
        lines = httpx2.post(f"{service.address}/v1/generations", json=body, timeout=60).text.splitlines()
        data = [json.loads(line.removeprefix("data: ")) for line in lines if line.startswith("data: ")]
        assert "".join(item["text"] for item in data[:-1]) == data[-1]["text"]
        metrics = httpx2.get(f"{service.address}/metrics").text
        assert "attune_engine_tokens_total" in metrics


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_a_service_that_waits_for_a_silent_engine_still_ends_at_a_signal(tmp_path: Path, how: signal.Signals) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        service = ThinProcess(tmp_path, ATTUNE_ENGINE_URL=f"http://127.0.0.1:{silent.getsockname()[1]}")
        process = service.launch()
        accepted, _ = silent.accept()
        process.send_signal(how)
        assert process.wait(timeout=30) is not None
        accepted.close()
    assert "Traceback" not in service.log
