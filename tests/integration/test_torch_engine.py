"""The torch engine over HTTP, in a process of its own, with a tiny model, basis and pool given by the settings."""

import json
from collections.abc import Iterator
from typing import Any

import httpx2
import openai
import pytest

from tests.fakes.process import ServedProcess
from tests.fakes.tiny_model import tiny_settings

GENERATE: dict[str, Any] = {"user_id": "ada", "prompt": "What should I cook?", "max_tokens": 24, "seed": 11}


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A service with the person ``ada``, who has answered every question of the pool."""
    directory = tmp_path_factory.mktemp("torch")
    with ServedProcess(directory, **tiny_settings(directory)) as service:
        with httpx2.Client(base_url=service.address) as http:
            http.put("/v1/users/ada", json={})
            state = http.post("/v1/questionnaires", json={"user_id": "ada"}).json()
            while state["question"]:
                answer = {"question_id": state["question"]["id"], "preferred": "first"}
                state = http.post(f"/v1/questionnaires/{state['id']}/answers", json=answer).json()
        yield service.address


@pytest.fixture
def http(address: str) -> Iterator[httpx2.Client]:
    with httpx2.Client(base_url=address, timeout=60) as client:
        yield client


def generate(http: httpx2.Client, mode: str = "auto", **options: Any) -> dict[str, Any]:
    body = {**GENERATE, "personalization": {"mode": mode, "explain": "full"}, **options}
    return http.post("/v1/generations", json=body).raise_for_status().json()


def test_the_best_of_sixteen_is_chosen(http: httpx2.Client) -> None:
    answer = generate(http)
    candidates, chosen = answer["personalization"]["candidates"], answer["personalization"]["chosen"]
    assert (answer["personalization"]["mode_used"], len(candidates)) == ("best_of_n", 16)
    assert answer["text"] == candidates[chosen]["text"]


def test_the_candidates_differ(http: httpx2.Client) -> None:
    candidates = generate(http)["personalization"]["candidates"]
    assert len({candidate["text"] for candidate in candidates}) > 8


def test_off_with_the_same_seed_is_the_first_candidate(http: httpx2.Client) -> None:
    off = generate(http, mode="off", prompt="Tell me more.")
    first = generate(http, prompt="Tell me more.")["personalization"]["candidates"][0]
    assert (off["text"], off["personalization"]["mode_used"]) == (first["text"], "off")


def test_the_tokens_of_all_candidates_are_counted(http: httpx2.Client) -> None:
    answer = generate(http)
    drawn = sum(candidate["tokens"] for candidate in answer["personalization"]["candidates"])
    assert answer["usage"]["completion_tokens"] == drawn


def test_a_stream_says_the_same_as_the_whole(http: httpx2.Client) -> None:
    lines = http.post("/v1/generations", json={**GENERATE, "stream": True}).text.splitlines()
    data = [json.loads(line.removeprefix("data: ")) for line in lines if line.startswith("data: ")]
    result = data.pop()
    assert "".join(item["text"] for item in data) == result["text"] == generate(http)["text"]


def test_a_prompt_beyond_the_context_is_refused(http: httpx2.Client) -> None:
    response = http.post("/v1/generations", json={**GENERATE, "prompt": "word " * 100})
    assert (response.status_code, response.json()["code"]) == (422, "prompt_too_long")


def test_openai_s_client_gets_the_same_answer(http: httpx2.Client, address: str) -> None:
    with openai.OpenAI(base_url=f"{address}/v1", api_key="unused", max_retries=0) as client:
        completion = client.chat.completions.create(
            model="tiny:personal",
            messages=[{"role": "user", "content": GENERATE["prompt"]}],
            max_tokens=GENERATE["max_tokens"],
            seed=GENERATE["seed"],
            user="ada",
        )
    assert completion.choices[0].message.content == generate(http)["text"]
