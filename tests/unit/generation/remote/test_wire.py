"""What goes over the wire comes back the same: floats bit for bit, errors as the same class."""

import json
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.entities import Candidate, CandidateSet, DecodingSpeed, Message, SamplingOptions, Steering
from app.errors import (
    AttuneError,
    EmptyPrompt,
    EngineOverloaded,
    EngineTimeout,
    EngineUnreachable,
    GuidanceUnavailable,
    InvalidInput,
    NonFiniteReward,
    PromptTooLong,
    Unavailable,
)
from app.generation.remote.wire import CandidatesBody, CandidatesView, RewardsView, SteeringBody, turns
from app.generation.remote.wire_errors import error_of
from app.http.error_handlers import error_body, failure_of

finite = st.floats(allow_nan=False, allow_infinity=False)


def bits(values: "list[float]") -> bytes:
    return struct.pack(f"{len(values)}d", *values)


@given(st.lists(finite, min_size=1, max_size=8))
def test_basis_rewards_survive_bit_for_bit(rewards: list[float]) -> None:
    view = RewardsView(basis_version="b", basis_rewards=[rewards])
    again = RewardsView.model_validate_json(view.model_dump_json()).matrix(len(rewards))
    assert again.tobytes() == bits(rewards)


@given(st.lists(finite, min_size=1, max_size=8), st.text(st.characters(exclude_categories=["Cs"]), max_size=50))
def test_a_set_of_candidates_survives_as_it_was(rewards: list[float], text: str) -> None:
    candidate = Candidate(text, 7, "dropped", np.array(rewards))
    drawn = CandidateSet((candidate,), prompt_tokens=3, completion_tokens=9, discarded_tokens=2, reused_tokens=1)
    view = CandidatesView.of(drawn, 5, "b", DecodingSpeed(0.1, 0.2))
    for content in (view.model_dump_json(), json.dumps(view.model_dump(mode="json"))):
        again = CandidatesView.model_validate_json(content).drawn()
        assert again.candidates[0].text == text
        assert again.candidates[0].basis_rewards.tobytes() == bits(rewards)
        assert (again.prompt_tokens, again.completion_tokens, again.discarded_tokens, again.reused_tokens) == (
            3,
            9,
            2,
            1,
        )


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=6), st.floats(0, 100), st.floats(0, 0.99))
def test_steering_survives_bit_for_bit(coefficients: list[float], strength: float, drop_below: float) -> None:
    steering = Steering(tuple(coefficients), "block", strength, 8, 3, drop_below)
    again = SteeringBody.model_validate_json(SteeringBody.of(steering).model_dump_json()).steering()
    assert again == steering
    assert bits(list(again.coefficients)) == bits(coefficients)


@given(st.integers(0, 2**63 - 1))
def test_every_seed_survives(seed: int) -> None:
    body = CandidatesBody(messages=turns((Message("user", "hi"),)), seed=seed, stop=["a"], cacheable=True)
    again = CandidatesBody.model_validate_json(body.model_dump_json(exclude_none=True)).options()
    assert again == SamplingOptions(128, 0.8, 0.95, seed, ("a",), cacheable=True)


ERRORS: list[AttuneError] = [
    InvalidInput("wrong", field="steering.coefficients"),
    PromptTooLong(600, 100, 512),
    EmptyPrompt("messages.0.content"),
    GuidanceUnavailable("token"),
    Unavailable("later", retry_after_seconds=7),
    EngineOverloaded(32, 3),
    EngineTimeout(5),
    EngineUnreachable("nobody"),
    NonFiniteReward("not finite"),
]


@pytest.mark.parametrize("path", ["/v1/candidates", "/v1/models"])
@pytest.mark.parametrize("error", ERRORS, ids=[type(error).__name__ for error in ERRORS])
def test_an_error_comes_back_as_the_same_class_with_its_message(error: AttuneError, path: str) -> None:
    failure = failure_of(error)
    again = error_of(failure.status, error_body(failure, path, "req_1"), failure.headers.get("Retry-After"))
    assert (type(again), again.message, str(again)) == (type(error), error.message, error.message)


@pytest.mark.parametrize("error", ERRORS, ids=[type(error).__name__ for error in ERRORS])
def test_an_error_of_our_routes_comes_back_with_its_field(error: AttuneError) -> None:
    failure = failure_of(error)
    assert error_of(failure.status, error_body(failure, "/v1/candidates", "req_1")).field == error.field


def test_an_overload_comes_back_with_its_pause() -> None:
    failure = failure_of(EngineOverloaded(32, 3))
    again = error_of(503, error_body(failure, "/v1/candidates", "req_1"), failure.headers["Retry-After"])
    assert isinstance(again, EngineOverloaded)
    assert again.retry_after_seconds == 3


@pytest.mark.parametrize("problem", [{}, None, [], "no", {"code": "internal_error", "detail": "x"}, {"code": 7}])
def test_an_answer_that_is_no_problem_of_ours_is_trouble_on_the_way(problem: object) -> None:
    assert isinstance(error_of(502, problem), EngineUnreachable)


def test_a_request_that_the_engine_s_limits_refuse_is_invalid_input() -> None:
    problem = {"code": "invalid_request", "detail": "n: too many", "errors": [{"pointer": "/n", "detail": "too many"}]}
    again = error_of(422, problem)
    assert (type(again), again.field) == (InvalidInput, "n")
