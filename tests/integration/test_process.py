"""The service as operators run it: a process, a port, a kill."""

import os
import subprocess
import sys
from pathlib import Path

import httpx2
import pytest

from tests.fakes.process import ServedProcess
from tests.fakes.tiny_model import tiny_settings


def serve(directory: Path, **environment: str) -> "subprocess.CompletedProcess[str]":
    """A start that is meant to be refused."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("ATTUNE_")}
    return subprocess.run(
        [sys.executable, "-m", "app.cli", "serve", "--port", "0"],
        check=False,
        cwd=directory,
        env={**kept, "ATTUNE_ENGINE__BACKEND": "scripted", **environment},
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_answers_survive_a_kill(tmp_path: Path) -> None:
    with ServedProcess(tmp_path) as service:
        with httpx2.Client(base_url=service.address) as http:
            http.put("/v1/users/ada", json={})
            state = http.post("/v1/questionnaires", json={"user_id": "ada"}).json()
            path = f"/v1/questionnaires/{state['id']}"
            for preferred in ("first", "second", "tie"):
                body = {"question_id": state["question"]["id"], "preferred": preferred}
                state = http.post(f"{path}/answers", json=body).json()
            before = http.get("/v1/users/ada/preferences").json()
            service.kill()
        service.start()
        with httpx2.Client(base_url=service.address) as http:
            assert http.get(path).json() == state
            assert http.get("/v1/users/ada/preferences").json() == before


def test_the_greeting_shows_commands_that_work(tmp_path: Path) -> None:
    with ServedProcess(tmp_path) as service:
        commands = [line for line in service.log.splitlines() if line.startswith("  curl")]
        codes = [
            subprocess.run(["sh", "-c", f"{command} -sS --fail"], check=False, capture_output=True).returncode
            for command in commands
        ]
    assert codes == [0, 0]


def test_the_log_tells_of_requests_but_not_of_prompts(tmp_path: Path) -> None:
    with ServedProcess(tmp_path) as service:
        httpx2.post(f"{service.address}/v1/generations", json={"prompt": "a canary sings"})
        httpx2.get(f"{service.address}/livez", headers={"X-Request-Id": "trace-42"})
    assert '"request_id": "trace-42"' in service.log
    assert "canary" not in service.log


def test_an_unknown_variable_stops_the_start(tmp_path: Path) -> None:
    refused = serve(tmp_path, ATTUNE_PROT="8000")
    assert refused.returncode == 1
    assert refused.stderr == "attune: Unknown variable ATTUNE_PROT; the nearest known one is ATTUNE_PORT.\n"


@pytest.mark.parametrize(
    "url", ["mysql://user:hidden@host/name", "postgresql://user:hidden@host:port/name", "sqlite:///log.txt/own.db"]
)
def test_a_database_that_cannot_be_opened_stops_the_start_in_one_line(tmp_path: Path, url: str) -> None:
    (tmp_path / "log.txt").touch()
    refused = serve(tmp_path, ATTUNE_DATABASE_URL=url, ATTUNE_AUTH__TOKEN="x" * 32)
    assert refused.returncode == 1
    assert refused.stderr.splitlines()[-1].startswith("attune: ")
    assert "ATTUNE_DATABASE_URL" in refused.stderr.splitlines()[-1]
    assert "hidden" not in refused.stderr


def test_a_directory_for_data_that_cannot_be_made_stops_the_start_in_one_line(tmp_path: Path) -> None:
    (tmp_path / ".attune").touch()
    refused = serve(tmp_path)
    assert refused.returncode == 1
    assert refused.stderr.splitlines()[-1].startswith(f"attune: The directory {tmp_path / '.attune'} ")


@pytest.mark.parametrize("missing", ["torch", "transformers", "tokenizers"])
def test_an_engine_whose_library_is_missing_stops_the_start_with_the_remedy(tmp_path: Path, missing: str) -> None:
    (tmp_path / missing).mkdir()
    (tmp_path / missing / "__init__.py").write_text(f"raise ModuleNotFoundError('gone', name='{missing}')")
    refused = serve(tmp_path, **tiny_settings(tmp_path), PYTHONPATH=str(tmp_path))
    assert refused.returncode == 1
    last = refused.stderr.splitlines()[-1]
    assert last.startswith(f"attune: The engine needs {missing}")
    assert "pip install 'attune[engine]'" in last


def test_a_given_database_that_is_not_migrated_is_refused_with_the_remedy(tmp_path: Path) -> None:
    given = {"ATTUNE_DATABASE_URL": f"sqlite:///{tmp_path}/own.db", "ATTUNE_AUTH__TOKEN": "x" * 32}
    refused = serve(tmp_path, **given)
    assert refused.returncode == 1
    assert refused.stderr.splitlines()[-1].endswith("run 'attune migrate'.")


def test_migrate_makes_a_given_database_usable(tmp_path: Path) -> None:
    given = {"ATTUNE_DATABASE_URL": f"sqlite:///{tmp_path}/own.db", "ATTUNE_AUTH__TOKEN": "x" * 32}
    environment = {**os.environ, **given}
    subprocess.run([sys.executable, "-m", "app.cli", "migrate"], check=True, cwd=tmp_path, env=environment)
    with ServedProcess(tmp_path, **given) as service:
        assert httpx2.get(f"{service.address}/v1/models").status_code == 401
        headers = {"Authorization": f"Bearer {'x' * 32}"}
        assert httpx2.get(f"{service.address}/v1/models", headers=headers).status_code == 200


@pytest.mark.postgres
def test_the_service_runs_on_postgresql(tmp_path: Path, postgres_url: str) -> None:
    given = {"ATTUNE_DATABASE_URL": postgres_url, "ATTUNE_AUTH__TOKEN": "x" * 32}
    environment = {**os.environ, **given}
    subprocess.run([sys.executable, "-m", "app.cli", "migrate"], check=True, cwd=tmp_path, env=environment)
    headers = {"Authorization": f"Bearer {'x' * 32}"}
    with ServedProcess(tmp_path, **given) as service:
        with httpx2.Client(base_url=service.address, headers=headers) as http:
            http.put("/v1/users/ada", json={})
            state = http.post("/v1/questionnaires", json={"user_id": "ada"}).json()
            body = {"question_id": state["question"]["id"], "preferred": "first"}
            following = http.post(f"/v1/questionnaires/{state['id']}/answers", json=body).json()
            assert following["progress"]["answered"] == 1
            assert http.delete("/v1/users/ada").json()["rows"]["questions"] == 2
