"""OpenAI's own client against the running service."""

import time
from collections.abc import Iterator
from pathlib import Path

import httpx2
import openai
import pytest

from tests.fakes.process import ServedProcess

MESSAGES = [{"role": "user", "content": "hello"}]


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[openai.OpenAI]:
    with ServedProcess(tmp_path_factory.mktemp("openai")) as service:
        with openai.OpenAI(base_url=f"{service.address}/v1", api_key="unused", max_retries=0) as client:
            client.put("/users/ada", body={}, cast_to=object)
            yield client


def ask(client: openai.OpenAI, **options: object) -> openai.types.chat.ChatCompletion:
    return client.chat.completions.create(
        **{"model": "scripted:personal", "messages": MESSAGES, "seed": 1, "user": "ada", **options}
    )


def test_a_completion_has_text_and_usage(client: openai.OpenAI) -> None:
    completion = ask(client)
    assert completion.choices[0].message.content
    assert completion.choices[0].finish_reason in {"stop", "length"}
    assert completion.usage is not None
    assert completion.usage.total_tokens == completion.usage.prompt_tokens + completion.usage.completion_tokens


def test_our_options_travel_in_the_extra_body_and_come_back_explained(client: openai.OpenAI) -> None:
    completion = ask(client, extra_body={"personalization": {"n_candidates": 4, "explain": "full"}})
    assert completion.model_extra is not None
    assert len(completion.model_extra["personalization"]["candidates"]) == 4


def test_two_choices_differ(client: openai.OpenAI) -> None:
    first, second = ask(client, n=2).choices
    assert first.message.content != second.message.content


def test_a_stop_string_ends_the_text_before_it(client: openai.OpenAI) -> None:
    whole = ask(client, model="scripted").choices[0].message.content
    assert whole is not None
    word = whole.split()[3]
    cut = ask(client, model="scripted", stop=[word]).choices[0].message.content
    assert cut == whole[: whole.find(word)].strip()


def test_a_stream_says_the_same_as_the_whole(client: openai.OpenAI) -> None:
    whole = ask(client)
    chunks = list(ask(client, stream=True, stream_options={"include_usage": True}))
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == whole.choices[0].message.content
    assert chunks[-1].usage == whole.usage


def test_the_stream_helper_assembles_the_completion(client: openai.OpenAI) -> None:
    options = {"model": "scripted:personal", "messages": MESSAGES, "seed": 1, "user": "ada"}
    with client.chat.completions.stream(**options) as stream:
        stream.until_done()
        assembled = stream.get_final_completion().choices[0].message.content
    assert assembled == ask(client).choices[0].message.content


@pytest.mark.parametrize(
    ("options", "error", "code", "param"),
    [
        ({"user": "nobody"}, openai.NotFoundError, "user_not_found", "user"),
        ({"model": "gpt-9"}, openai.NotFoundError, "model_not_found", "model"),
        ({"temperature": -1}, openai.BadRequestError, "invalid_request", "temperature"),
        ({"safety_identifier": "eve"}, openai.BadRequestError, "conflicting_user_id", "safety_identifier"),
        ({"logprobs": True}, openai.BadRequestError, "unsupported_option", "logprobs"),
    ],
)
def test_errors_are_understood_by_the_client(
    client: openai.OpenAI, options: dict[str, object], error: type[openai.APIStatusError], code: str, param: str
) -> None:
    with pytest.raises(error) as caught:
        ask(client, **options)
    assert (caught.value.code, caught.value.param) == (code, param)
    assert caught.value.request_id


def test_an_error_in_a_stream_that_comes_at_once_keeps_its_status(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError):
        ask(client, stream=True, messages=[{"role": "user", "content": "word " * 600}])


def test_both_models_are_listed(client: openai.OpenAI) -> None:
    assert [model.id for model in client.models.list()] == ["scripted", "scripted:personal"]
    assert client.models.retrieve("scripted:personal").id == "scripted:personal"


GUIDED = {"personalization": {"mode": "guided"}}


def test_a_guided_stream_says_the_same_as_the_whole_in_many_pieces(client: openai.OpenAI) -> None:
    whole = ask(client, extra_body=GUIDED)
    chunks = list(ask(client, extra_body=GUIDED, stream=True, stream_options={"include_usage": True}))
    pieces = [chunk.choices[0].delta.content for chunk in chunks if chunk.choices and chunk.choices[0].delta.content]
    assert "".join(pieces) == whole.choices[0].message.content
    assert len(pieces) > 3
    assert chunks[-1].usage == whole.usage
    assert chunks[-1].model_extra is not None
    assert chunks[-1].model_extra["personalization"]["mode_used"] == "guided"


def test_an_impossible_wish_is_a_bad_request_that_names_its_field(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as failure:
        ask(client, extra_body={"personalization": {"latency_budget_ms": 0}})
    assert failure.value.param == "personalization.latency_budget_ms"


def test_leaving_a_guided_stream_ends_its_decoding(tmp_path: Path) -> None:
    slow = {"ATTUNE_ENGINE__SCRIPTED_TOKEN_SECONDS": "0.1"}
    with (
        ServedProcess(tmp_path, **slow) as service,
        openai.OpenAI(base_url=f"{service.address}/v1", api_key="unused", max_retries=0) as client,
    ):

        def figures() -> dict[str, float]:
            lines = httpx2.get(f"{service.address}/metrics").text.splitlines()
            return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines if line[0] != "#")}

        client.put("/users/ada", body={}, cast_to=object)
        stream = ask(client, extra_body=GUIDED, stream=True)
        first = next(chunk for chunk in stream if chunk.choices[0].delta.content)
        stream.close()
        while figures()["attune_inflight_requests"] > 1:  # the one that asks is under way itself
            time.sleep(0.01)
        written = figures()["attune_engine_tokens_total"]
        whole = ask(client, extra_body=GUIDED).choices[0].message.content
        assert first.choices[0].delta.content == (whole or "").split()[0]
        assert written < len((whole or "").split())
