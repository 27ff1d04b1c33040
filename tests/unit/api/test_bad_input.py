# ruff: noqa: E501
"""Every way to send nonsense, with the status, the code and the field that tell what was wrong."""

import json
from typing import Any

import httpx2
import pytest

pytestmark = pytest.mark.anyio

GENERATE: dict[str, Any] = {"prompt": "hello"}
COMPARE: dict[str, Any] = {"user_id": "known", "prompt": "hi", "first": "a b", "second": "c d", "preferred": "first"}

CASES: list[tuple[str, str, str, Any, int, str, str | None]] = [
    ("unknown user", "GET", "/v1/users/nobody", None, 404, "user_not_found", "/user_id"),
    ("unknown user to delete", "DELETE", "/v1/users/nobody", None, 404, "user_not_found", "/user_id"),
    ("unknown user to ask", "POST", "/v1/questionnaires", {"user_id": "nobody"}, 404, "user_not_found", "/user_id"),
    ("unknown user to please", "POST", "/v1/generations", {**GENERATE, "user_id": "nobody"}, 404, "user_not_found", "/user_id"),
    ("user id too long", "PUT", f"/v1/users/{'u' * 65}", {}, 422, "invalid_request", "/user_id"),
    ("user id with a space", "PUT", "/v1/users/a%20b", {}, 422, "invalid_request", "/user_id"),
    ("user id with a quote in the body", "POST", "/v1/questionnaires", {"user_id": "a'b"}, 422, "invalid_request", "/user_id"),
    ("user id with a trailing newline", "POST", "/v1/questionnaires", {"user_id": "ab\n"}, 422, "invalid_request", "/user_id"),
    ("consent that is no boolean", "PUT", "/v1/users/known", {"consent": "yes"}, 422, "invalid_request", "/consent"),
    ("unknown field", "PUT", "/v1/users/known", {"colour": "red"}, 422, "invalid_request", "/colour"),
    ("NUL in about", "PUT", "/v1/users/known", {"about": "a\0b"}, 422, "invalid_request", "/about"),
    ("about that is too long", "PUT", "/v1/users/known", {"about": "x" * 4001}, 422, "invalid_request", "/about"),
    ("about that is too long with a comparison", "POST", "/v1/comparisons", [{**COMPARE, "about": "x" * 4001}], 422, "invalid_request", "/comparisons/0/about"),
    ("NUL deep in metadata", "PUT", "/v1/users/known", {"metadata": {"a": [{"b": "\0"}]}}, 422, "invalid_request", "/metadata"),
    ("empty prompt", "POST", "/v1/generations", {"prompt": ""}, 422, "empty_prompt", "/prompt"),
    ("blank prompt", "POST", "/v1/generations", {"prompt": " \n\t "}, 422, "empty_prompt", "/prompt"),
    ("no prompt", "POST", "/v1/generations", {}, 422, "empty_prompt", "/prompt"),
    ("blank message", "POST", "/v1/generations", {"messages": [{"role": "user", "content": " "}]}, 422, "empty_prompt", "/messages/0/content"),
    ("prompt and messages", "POST", "/v1/generations", {**GENERATE, "messages": [{"role": "user", "content": "x"}]}, 422, "invalid_input", "/prompt"),
    ("assistant has the last word", "POST", "/v1/generations", {"messages": [{"role": "assistant", "content": "x"}]}, 422, "invalid_input", "/messages/0/role"),
    ("prompt longer than the context", "POST", "/v1/generations", {"prompt": "word " * 600}, 422, "prompt_too_long", "/prompt"),
    ("NUL in the prompt", "POST", "/v1/generations", {"prompt": "a\0b"}, 422, "invalid_request", "/prompt"),
    ("no candidates", "POST", "/v1/generations", {**GENERATE, "personalization": {"n_candidates": 0}}, 422, "invalid_request", "/personalization/n_candidates"),
    ("too many candidates", "POST", "/v1/generations", {**GENERATE, "personalization": {"n_candidates": 65}}, 422, "invalid_request", "/personalization/n_candidates"),
    ("unknown mode", "POST", "/v1/generations", {**GENERATE, "personalization": {"mode": "magic"}}, 422, "invalid_request", "/personalization/mode"),
    ("negative strength", "POST", "/v1/generations", {**GENERATE, "personalization": {"strength": -1}}, 422, "invalid_request", "/personalization/strength"),
    ("no tokens", "POST", "/v1/generations", {**GENERATE, "max_tokens": 0}, 422, "invalid_request", "/max_tokens"),
    ("too many tokens", "POST", "/v1/generations", {**GENERATE, "max_tokens": 4097}, 422, "invalid_request", "/max_tokens"),
    ("negative temperature", "POST", "/v1/generations", {**GENERATE, "temperature": -0.1}, 422, "invalid_request", "/temperature"),
    ("top_p of zero", "POST", "/v1/generations", {**GENERATE, "top_p": 0}, 422, "invalid_request", "/top_p"),
    ("number in quotes", "POST", "/v1/generations", {**GENERATE, "max_tokens": "12"}, 422, "invalid_request", "/max_tokens"),
    ("negative seed", "POST", "/v1/generations", {**GENERATE, "seed": -1}, 422, "invalid_request", "/seed"),
    ("nothing to rank", "POST", "/v1/rank", {"user_id": "known", "prompt": "x", "responses": []}, 422, "invalid_request", "/responses"),
    ("blank response to rank", "POST", "/v1/rank", {"user_id": "known", "prompt": "x", "responses": [" "]}, 422, "invalid_request", "/responses/0"),
    ("no questions", "POST", "/v1/questionnaires", {"user_id": "known", "max_questions": 0}, 422, "invalid_request", "/max_questions"),
    ("no batch", "POST", "/v1/questionnaires", {"user_id": "known", "batch_size": 0}, 422, "invalid_request", "/batch_size"),
    ("too large a batch", "POST", "/v1/questionnaires", {"user_id": "known", "batch_size": 51}, 422, "invalid_request", "/batch_size"),
    ("part of a question", "POST", "/v1/questionnaires", {"user_id": "known", "batch_size": 1.5}, 422, "invalid_request", "/batch_size"),
    ("unknown source", "POST", "/v1/questionnaires", {"user_id": "known", "source": "dreams"}, 422, "invalid_request", "/source"),
    ("prompts for the pool", "POST", "/v1/questionnaires", {"user_id": "known", "prompts": ["x"]}, 422, "invalid_input", "/prompts"),
    ("no prompts", "POST", "/v1/questionnaires", {"user_id": "known", "source": "auto", "prompts": []}, 422, "invalid_request", "/prompts"),
    ("blank prompt to ask about", "POST", "/v1/questionnaires", {"user_id": "known", "source": "auto", "prompts": ["x", " "]}, 422, "invalid_request", "/prompts/1"),
    ("NUL in a prompt to ask about", "POST", "/v1/questionnaires", {"user_id": "known", "source": "auto", "prompts": ["a\0b"]}, 422, "invalid_request", "/prompts/0"),
    ("too many prompts to ask about", "POST", "/v1/questionnaires", {"user_id": "known", "source": "auto", "prompts": ["x"] * 101}, 422, "invalid_request", "/prompts"),
    ("prompt to ask about beyond the context", "POST", "/v1/questionnaires", {"user_id": "known", "source": "generated", "prompts": ["word " * 600]}, 422, "prompt_too_long", "/prompts/0"),
    ("prompt to ask about that is too long", "POST", "/v1/questionnaires", {"user_id": "known", "source": "auto", "prompts": ["x" * 4001]}, 422, "invalid_request", "/prompts/0"),
    ("too large a batch for the engine", "POST", "/v1/questionnaires", {"user_id": "known", "source": "generated", "batch_size": 11}, 422, "invalid_input", "/batch_size"),
    ("unknown questionnaire to continue", "POST", "/v1/questionnaires/qnr_none/next", None, 404, "questionnaire_not_found", "/questionnaire_id"),
    ("certainty of one", "POST", "/v1/questionnaires", {"user_id": "known", "target_certainty": 1.0}, 422, "invalid_request", "/target_certainty"),
    ("unknown topic", "POST", "/v1/questionnaires", {"user_id": "known", "topic": "astrology"}, 422, "unknown_topic", "/topic"),
    ("unknown questionnaire", "GET", "/v1/questionnaires/qnr_none", None, 404, "questionnaire_not_found", "/questionnaire_id"),
    ("wrong choice", "POST", "/v1/questionnaires/qnr_none/answers", {"question_id": "q", "preferred": "third"}, 422, "invalid_request", "/preferred"),
    ("negative latency", "POST", "/v1/questionnaires/qnr_none/answers", {"question_id": "q", "preferred": "tie", "latency_ms": -1}, 422, "invalid_request", "/latency_ms"),
    ("unknown axis", "PATCH", "/v1/users/known/preferences", {"adjustments": [{"index": 4, "delta": 1}]}, 422, "unknown_axis", "/adjustments/index"),
    ("no adjustments", "PATCH", "/v1/users/known/preferences", {"adjustments": []}, 422, "invalid_request", "/adjustments"),
    ("wrong item among comparisons", "POST", "/v1/comparisons", [COMPARE, {**COMPARE, "preferred": "skip"}], 422, "invalid_request", "/comparisons/1/preferred"),
    ("blank item among comparisons", "POST", "/v1/comparisons", [COMPARE, {**COMPARE, "prompt": ""}], 422, "empty_prompt", "/comparisons/1/prompt"),
    ("stranger among comparisons", "POST", "/v1/comparisons", [COMPARE, {**COMPARE, "user_id": "nobody"}], 404, "user_not_found", "/comparisons/1/user_id"),
    ("no comparisons", "POST", "/v1/comparisons", [], 422, "invalid_request", "/comparisons"),
    ("time without a zone", "POST", "/v1/comparisons", [{**COMPARE, "at": "2026-01-01T00:00:00"}], 422, "invalid_request", "/comparisons/0/at"),
    ("a time before there were clocks", "POST", "/v1/comparisons", [{**COMPARE, "at": "0001-01-01T00:00:00+14:00"}], 422, "invalid_request", "/comparisons/0/at"),
    ("the last time there is", "POST", "/v1/comparisons", [{**COMPARE, "at": "9999-12-31T23:59:59-14:00"}], 422, "invalid_request", "/comparisons/0/at"),
    ("a time in the future", "POST", "/v1/comparisons", [{**COMPARE, "at": "2999-01-01T00:00:00Z"}], 422, "invalid_request", "/comparisons/0/at"),
    ("unknown route", "GET", "/v1/nothing", None, 404, "route_not_found", None),
    ("wrong method", "DELETE", "/v1/questionnaires", None, 405, "method_not_allowed", None),
]  # fmt: skip


@pytest.fixture(autouse=True, scope="module")
async def known(http: httpx2.AsyncClient) -> None:
    await http.put("/v1/users/known", json={})


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "code", "pointer"),
    [case[1:] for case in CASES],
    ids=[case[0] for case in CASES],
)
async def test_bad_input_is_a_problem_with_its_code_and_field(
    http: httpx2.AsyncClient, method: str, path: str, body: Any, status: int, code: str, pointer: str | None
) -> None:
    headers = {"If-Match": "*"} if method == "PATCH" else {}
    response = await http.request(method, path, json=body, headers=headers)
    problem = response.json()
    assert (response.status_code, problem["code"]) == (status, code), problem
    assert response.headers["content-type"] == "application/problem+json"
    assert {"type", "title", "status", "detail", "instance", "request_id"} <= set(problem)
    assert pointer is None or [item["pointer"] for item in problem["errors"]] == [pointer]


RAW: list[tuple[str, bytes, int, str]] = [
    ("no JSON", b"{prompt: hello}", 400, "invalid_json"),
    ("not UTF-8", b'{"prompt": "\xff\xfe"}', 400, "invalid_body"),
    ("lone surrogate", b'{"prompt": "\\ud800"}', 422, "invalid_request"),
    ("NaN", b'{"prompt": "x", "temperature": NaN}', 422, "invalid_request"),
    ("infinity", b'{"prompt": "x", "personalization": {"strength": Infinity}}', 422, "invalid_request"),
    ("a number no machine holds", b'{"prompt": "x", "max_tokens": 1e999}', 422, "invalid_request"),
    ("five thousand digits", b'{"prompt": "x", "seed": ' + b"9" * 5000 + b"}", 400, "invalid_body"),
    ("brackets without end", b"[" * 100_000, 400, "invalid_body"),
    ("no object", b"17", 422, "invalid_request"),
    ("nothing", b"", 422, "invalid_request"),
]


@pytest.mark.parametrize(("content", "status", "code"), [case[1:] for case in RAW], ids=[case[0] for case in RAW])
async def test_a_body_that_cannot_be_read_is_a_problem(
    http: httpx2.AsyncClient, content: bytes, status: int, code: str
) -> None:
    headers = {"Content-Type": "application/json"}
    response = await http.post("/v1/generations", content=content, headers=headers)
    assert (response.status_code, response.json()["code"]) == (status, code), response.text


async def test_a_body_over_one_mebibyte_is_413(http: httpx2.AsyncClient) -> None:
    response = await http.post("/v1/generations", json={"prompt": "x" * 1024 * 1024})
    assert (response.status_code, response.json()["code"]) == (413, "body_too_large")


async def test_a_body_over_one_mebibyte_whose_length_is_not_announced_is_413(http: httpx2.AsyncClient) -> None:
    async def chunks() -> Any:
        for _ in range(20):
            yield b"x" * 65_536

    headers = {"Content-Type": "application/json"}
    response = await http.post("/v1/generations", content=chunks(), headers=headers)
    assert (response.status_code, response.json()["code"]) == (413, "body_too_large")


async def test_a_body_of_another_type_is_a_problem(http: httpx2.AsyncClient) -> None:
    content, headers = json.dumps(GENERATE), {"Content-Type": "text/plain"}
    response = await http.post("/v1/generations", content=content, headers=headers)
    assert (response.status_code, response.json()["code"]) == (422, "invalid_request")
