"""What the inference server and its client say to each other, as JSON. Floats survive the way exactly.

Requests are checked as strictly as those of the service. Answers may gain fields, and clients ignore
what they do not know.
"""

from secrets import randbelow
from typing import Annotated

import numpy as np
from jaxtyping import Float64
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from app.entities import (
    Caller,
    Candidate,
    CandidateSet,
    Conversation,
    DecodingSpeed,
    FinishReason,
    Guidance,
    SamplingOptions,
    Steering,
    SteeringKind,
)
from app.errors import InvalidInput
from app.http.bodies import Body, PromptBody, SamplingBody, Text, Turn, stops

MOST_CANDIDATES = 256
MOST_ROWS = 1024
LARGEST_BODY = 8 * 1024 * 1024
"""More than the service takes from its callers, so that what it accepted reaches the engine."""

DELTA, RESULT, ERROR = "delta", "result", "error"
"""Names of a stream's events: a piece of text, the whole at the end, or a problem in its place."""

Coefficients = Annotated[list[Annotated[float, Field(ge=-1e6, le=1e6)]], Field(min_length=1, max_length=1024)]
Tenant = Annotated[Text, StringConstraints(max_length=128)]
Expected = Annotated[Text, StringConstraints(min_length=1, max_length=256)]
"""A basis version without which a request makes no sense: coefficients and rewards of another mean something else."""


class SteeringBody(Body):
    """``entities.Steering`` with the limits of its fields."""

    coefficients: Coefficients
    guidance: Guidance = "none"
    strength: Annotated[float, Field(ge=0, le=100)] = 1.0
    block_tokens: Annotated[int, Field(ge=1, le=4096)] = 16
    continuations: Annotated[int, Field(ge=1, le=64)] = 4
    drop_below: Annotated[float, Field(ge=0, lt=1)] = 0.0

    def steering(self) -> Steering:
        """The steering as engines take it."""
        return Steering(**{**self.model_dump(), "coefficients": tuple(self.coefficients)})

    @classmethod
    def of(cls, steering: Steering) -> "SteeringBody":
        """The body that says ``steering``."""
        return cls(**{**vars(steering), "coefficients": list(steering.coefficients)})


class _DecodingBody(SamplingBody):
    """What both kinds of decoding take; without a seed one is drawn, and nothing is kept for a second request."""

    steering: SteeringBody | None = None
    tenant: Tenant = ""
    timeout_seconds: Annotated[float, Field(gt=0, le=3600)] | None = None
    basis_version: Expected | None = None
    cacheable: bool = True

    def options(self) -> SamplingOptions:
        """How to sample."""
        seed, cacheable = (randbelow(2**63), False) if self.seed is None else (self.seed, self.cacheable)
        return SamplingOptions(
            self.max_tokens, self.temperature, self.top_p, seed, stop=stops(self.stop), cacheable=cacheable
        )

    def caller(self) -> Caller:
        """Whose turn it takes."""
        return Caller(self.tenant, self.timeout_seconds)


class CandidatesBody(_DecodingBody):
    """``POST /v1/candidates``."""

    n: Annotated[int, Field(ge=1, le=MOST_CANDIDATES)] = 1


class GuidedBody(_DecodingBody):
    """``POST /v1/guided``: ``coefficients`` alone ask for the finest guidance that the engine can do."""

    coefficients: Coefficients | None = None
    stream: bool = True

    def steered(self, kinds: frozenset[SteeringKind]) -> Steering | None:
        """The steering asked for, on an engine that can do ``kinds``; None is plain decoding."""
        if self.coefficients is None:
            return None if self.steering is None else self.steering.steering()
        if self.steering is not None:
            raise InvalidInput("Send coefficients or steering, not both.", field="coefficients")
        guidance: Guidance = "block" if "block" in kinds and "token" not in kinds else "token"
        return Steering(tuple(self.coefficients), guidance=guidance)


class RowBody(PromptBody):
    """One text to read, with what it answers."""

    response: Text


class RewardsBody(PromptBody):
    """``POST /v1/basis-rewards``: ``responses`` to one prompt, or ``rows`` with a prompt each."""

    responses: Annotated[list[Text], Field(max_length=MOST_ROWS)] | None = None
    rows: Annotated[list[RowBody], Field(max_length=MOST_ROWS)] | None = None
    tenant: Tenant = ""
    timeout_seconds: Annotated[float, Field(gt=0, le=3600)] | None = None
    basis_version: Expected | None = None

    def pairs(self) -> list[tuple[Conversation, str]]:
        """What to read, row by row."""
        if (self.responses is None) == (self.rows is None):
            raise InvalidInput("Send responses with a prompt, or rows.", field="responses")
        if self.rows is None:
            conversation = self.conversation()
            return [(conversation, response) for response in self.responses or ()]
        if self.prompt is not None or self.messages is not None:
            raise InvalidInput("Every one of rows has its own prompt; leave the common one out.", field="prompt")
        return [(row.conversation(f"rows.{index}."), row.response) for index, row in enumerate(self.rows)]

    def caller(self) -> Caller:
        """Whose turn it takes."""
        return Caller(self.tenant, self.timeout_seconds)


class _View(BaseModel):
    model_config = ConfigDict(extra="ignore", strict=True, allow_inf_nan=False, frozen=True, hide_input_in_errors=True)


class SpeedView(_View):
    """``entities.DecodingSpeed``, in seconds."""

    step: float
    row: float


class UsageView(_View):
    """What a set of candidates cost, in tokens."""

    prompt_tokens: int
    completion_tokens: int
    discarded_tokens: int
    reused_tokens: int


class CandidateView(_View):
    """One completion with its basis rewards (K)."""

    index: int
    text: str
    tokens: int
    finish_reason: FinishReason
    basis_rewards: list[float]


class CandidatesView(_View):
    """The candidates of one prompt, by whose basis rewards, and how fast the engine was lately."""

    basis_version: str
    seed: int
    candidates: list[CandidateView]
    usage: UsageView
    speed: SpeedView | None = None

    @classmethod
    def of(cls, drawn: CandidateSet, seed: int, basis_version: str, speed: DecodingSpeed | None) -> "CandidatesView":
        """The view of a set."""
        return cls(
            basis_version=basis_version,
            seed=seed,
            candidates=[
                CandidateView(
                    index=index,
                    text=one.text,
                    tokens=one.tokens,
                    finish_reason=one.finish_reason,
                    basis_rewards=one.basis_rewards.tolist(),
                )
                for index, one in enumerate(drawn.candidates)
            ],
            usage=UsageView(**{name: getattr(drawn, name) for name in UsageView.model_fields}),
            speed=None if speed is None else SpeedView(step=speed.step, row=speed.row),
        )

    def drawn(self) -> CandidateSet:
        """The set, as the engine's process had it."""
        candidates = tuple(
            Candidate(one.text, one.tokens, one.finish_reason, np.array(one.basis_rewards)) for one in self.candidates
        )
        return CandidateSet(candidates, **self.usage.model_dump())


class DeltaView(_View):
    """A piece of a text that is being written."""

    text: str


class RewardsView(_View):
    """Basis rewards, one row (K) a text."""

    basis_version: str
    basis_rewards: list[list[float]]

    def matrix(self, size: int) -> Float64[np.ndarray, "rows basis"]:
        """The rows as an array; ``size`` is K, for when there are none."""
        return np.array(self.basis_rewards, dtype=np.float64).reshape(-1, size)


class HeldBasis(_View):
    """A basis that the engine has loaded, of ``K`` rewards."""

    version: str
    K: int


class ModelView(_View):
    """The base model, in the form that OpenAI's clients list, with what the engine can do."""

    id: str
    object: str = "model"
    created: int
    owned_by: str = "attune"
    backend: str
    release: str
    bases: list[HeldBasis]
    steering: list[SteeringKind]
    speed: SpeedView | None


class ModelsView(_View):
    """``GET /v1/models``."""

    object: str = "list"
    data: Annotated[list[ModelView], Field(min_length=1)]


def turns(conversation: Conversation) -> list[Turn]:
    """The messages of a conversation, for a request.

    Raises:
        InvalidInput: If a text cannot be sent, for its length or characters that no tokenizer takes.
    """
    try:
        return [Turn(role=message.role, content=message.content) for message in conversation]
    except ValidationError as error:
        raise refused(error, "messages") from None


def refused(error: ValidationError, where: str = "") -> InvalidInput:
    """What a body that breaks a limit is told, without any of its texts."""
    problem = error.errors(include_input=False, include_url=False, include_context=False)[0]
    field = ".".join(str(part) for part in problem["loc"]) or where
    return InvalidInput(f"{field}: {problem['msg']}", field=field)
