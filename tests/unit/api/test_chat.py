import json
from typing import Any

import httpx2
import pytest

pytestmark = pytest.mark.anyio

PATH = "/v1/chat/completions"
CHAT: dict[str, Any] = {
    "model": "scripted:personal",
    "messages": [{"role": "user", "content": "hello"}],
    "seed": 1,
    "max_tokens": 30,
}

ERRORS: list[tuple[str, dict[str, Any], int, str, str | None]] = [
    ("unknown model", {"model": "gpt-9"}, 404, "model_not_found", "model"),
    ("unknown user", {"user": "nobody"}, 404, "user_not_found", "user"),
    ("unknown safety identifier", {"safety_identifier": "nobody"}, 404, "user_not_found", "safety_identifier"),
    (
        "unknown user of ours",
        {"personalization": {"user_id": "nobody"}},
        404,
        "user_not_found",
        "personalization.user_id",
    ),
    ("two users", {"user": "a", "safety_identifier": "b"}, 400, "conflicting_user_id", "safety_identifier"),
    ("tools", {"tools": [{"type": "function", "function": {"name": "f"}}]}, 400, "unsupported_option", "tools"),
    ("json", {"response_format": {"type": "json_object"}}, 400, "unsupported_option", "response_format"),
    ("logprobs", {"logprobs": True}, 400, "unsupported_option", "logprobs"),
    ("empty message", {"messages": [{"role": "user", "content": ""}]}, 400, "empty_prompt", "messages.0.content"),
    ("no messages", {"messages": []}, 400, "invalid_request", "messages"),
    ("too long", {"messages": [{"role": "user", "content": "a " * 600}]}, 400, "prompt_too_long", "messages"),
    ("negative temperature", {"temperature": -1}, 400, "invalid_request", "temperature"),
    ("unknown option of ours", {"personalization": {"magic": 1}}, 400, "invalid_request", "personalization.magic"),
    ("n over n_candidates", {"n": 3, "personalization": {"n_candidates": 2}}, 400, "invalid_input", "n"),
    ("two limits", {"max_completion_tokens": 9}, 400, "invalid_input", "max_tokens"),
]


@pytest.mark.parametrize(
    ("change", "status", "code", "param"), [case[1:] for case in ERRORS], ids=[case[0] for case in ERRORS]
)
async def test_errors_come_in_openai_s_envelope(
    http: httpx2.AsyncClient, change: dict[str, Any], status: int, code: str, param: str | None
) -> None:
    response = await http.post(PATH, json={**CHAT, **change})
    error = response.json()["error"]
    assert (response.status_code, error["code"], error["param"]) == (status, code, param), error
    assert set(error) == {"message", "type", "param", "code"}


async def test_a_body_that_is_no_json_comes_in_openai_s_envelope_too(http: httpx2.AsyncClient) -> None:
    response = await http.post(PATH, content=b"{", headers={"Content-Type": "application/json"})
    assert response.json()["error"]["code"] == "invalid_json"


async def test_the_base_model_answers_as_it_is_and_the_personal_one_chooses(
    http: httpx2.AsyncClient, user: str
) -> None:
    modes = []
    for model in ("scripted", "scripted:personal"):
        body = (await http.post(PATH, json={**CHAT, "model": model, "user": user})).json()
        modes.append(body["personalization"]["mode_used"])
    assert modes == ["off", "best_of_n"]


async def test_the_base_model_chooses_when_our_options_are_sent(http: httpx2.AsyncClient, user: str) -> None:
    options = {**CHAT, "model": "scripted", "personalization": {"user_id": user}}
    assert (await http.post(PATH, json=options)).json()["personalization"]["mode_used"] == "best_of_n"


async def test_the_base_model_asks_nobody_to_be_registered(http: httpx2.AsyncClient) -> None:
    options = {**CHAT, "model": "scripted", "user": "nobody", "safety_identifier": "somebody-else"}
    response = await http.post(PATH, json=options)
    assert (response.status_code, response.json()["personalization"]["mode_used"]) == (200, "off")


async def test_the_base_model_with_our_options_needs_a_person_who_is_registered(http: httpx2.AsyncClient) -> None:
    options = {**CHAT, "model": "scripted", "user": "nobody", "personalization": {"mode": "off"}}
    assert (await http.post(PATH, json=options)).status_code == 404


@pytest.mark.parametrize("field", ["user", "safety_identifier"])
async def test_an_unknown_person_may_get_the_population_s_answer(http: httpx2.AsyncClient, field: str) -> None:
    options = {**CHAT, field: "nobody", "personalization": {"on_missing_user": "prior"}}
    assert (await http.post(PATH, json=options)).status_code == 200


async def test_usage_counts_all_candidates_and_tells_the_accepted_ones_apart(http: httpx2.AsyncClient) -> None:
    body = (await http.post(PATH, json=CHAT)).json()
    details = body["usage"]["completion_tokens_details"]
    words = len(body["choices"][0]["message"]["content"].split())
    assert details["accepted_candidate_tokens"] == words
    assert sum(details.values()) == body["usage"]["completion_tokens"]


async def test_n_choices_come_back_in_order(http: httpx2.AsyncClient) -> None:
    body = (await http.post(PATH, json={**CHAT, "n": 3})).json()
    assert [choice["index"] for choice in body["choices"]] == [0, 1, 2]
    assert len({choice["message"]["content"] for choice in body["choices"]}) == 3


async def test_content_in_parts_is_the_text_they_hold(http: httpx2.AsyncClient) -> None:
    parts = [{"type": "text", "text": "hel"}, {"type": "text", "text": "lo"}]
    whole, split = [
        (await http.post(PATH, json={**CHAT, "messages": [{"role": "user", "content": content}]})).json()
        for content in ("hello", parts)
    ]
    assert whole["choices"] == split["choices"]


async def test_options_without_effect_are_named_in_a_header(http: httpx2.AsyncClient) -> None:
    response = await http.post(PATH, json={**CHAT, "store": True, "verbosity": "low", "tools": []})
    assert response.headers["x-ignored-fields"] == "store, verbosity"


async def test_a_stream_says_the_same_as_the_whole_and_ends_with_done(http: httpx2.AsyncClient) -> None:
    whole = (await http.post(PATH, json=CHAT)).json()
    streamed = await http.post(PATH, json={**CHAT, "stream": True, "stream_options": {"include_usage": True}})
    data = [line.removeprefix("data: ") for line in streamed.text.split("\n") if line.startswith("data: ")]
    assert data.pop() == "[DONE]"
    chunks = [json.loads(item) for item in data]
    text = "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in chunks[:-1])
    assert text == whole["choices"][0]["message"]["content"]
    assert (chunks[-1]["choices"], chunks[-1]["usage"]) == ([], whole["usage"])
    assert chunks[-2]["choices"][0]["finish_reason"] == whole["choices"][0]["finish_reason"]


async def test_a_stream_without_usage_asked_for_has_none(http: httpx2.AsyncClient) -> None:
    streamed = await http.post(PATH, json={**CHAT, "stream": True})
    assert '"usage"' not in streamed.text


async def test_both_models_are_listed_and_can_be_read(http: httpx2.AsyncClient) -> None:
    listed = (await http.get("/v1/models")).json()["data"]
    assert [model["id"] for model in listed] == ["scripted", "scripted:personal"]
    assert (await http.get("/v1/models/scripted:personal")).json() == listed[1]
    assert (await http.get("/v1/models/none")).json()["error"]["code"] == "model_not_found"


@pytest.mark.parametrize("name", ["имя", "naïve", "x" * 5000])
async def test_a_field_of_any_name_is_ignored(http: httpx2.AsyncClient, name: str) -> None:
    response = await http.post("/v1/chat/completions", json={**CHAT, name: 1, "store": True})
    assert (response.status_code, response.headers["x-ignored-fields"]) == (200, "store")


async def test_the_header_of_ignored_fields_stays_short(http: httpx2.AsyncClient) -> None:
    response = await http.post("/v1/chat/completions", json={**CHAT, **{f"field_{i:04d}": 1 for i in range(3000)}})
    assert response.status_code == 200
    assert len(response.headers["x-ignored-fields"]) < 2000
