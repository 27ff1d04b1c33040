"""What an OpenAI-compatible server answers: completions, pieces of a stream, and refusals as our own errors.

Servers add fields as they like; only what is read here must be there. Knows no HTTP client.
"""

import re
from collections.abc import Sequence
from email.utils import parsedate_to_datetime
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from app.entities import FinishReason
from app.errors import AttuneError, EngineUnreachable, InvalidInput, PromptTooLong, UpstreamOverloaded

PAUSE_SECONDS = 2
"""What callers are told where the upstream asks for a pause and does not say how long."""

_TOO_LONG = "context_length_exceeded"
_CONTEXT = re.compile(r"maximum context length (?:is|of) (\d+)", re.IGNORECASE)
_PROMPT = re.compile(
    r"(?:messages resulted in|prompt contains(?: at least)?) (\d+)|(\d+) in the messages", re.IGNORECASE
)
_LONGEST_MESSAGE = 300

Body = TypeVar("Body", bound=BaseModel)


class _Reply(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)


class _Message(_Reply):
    content: str | None


class _Delta(_Reply):
    content: str | None = None


class TokenLogprob(_Reply):
    """One token with its log-probability."""

    token: str
    logprob: float


class StepLogprobs(_Reply):
    """The log-probabilities that were asked for at one step."""

    top_logprobs: list[TokenLogprob]


class Logprobs(_Reply):
    """Log-probabilities of every step."""

    content: list[StepLogprobs]


class Choice(_Reply):
    """One completion; ``token_ids`` and ``logprobs`` are there only if they were asked for."""

    index: int = 0
    message: _Message
    finish_reason: str | None = None
    token_ids: list[int] | None = None
    logprobs: Logprobs | None = None

    @property
    def text(self) -> str:
        """The text; empty where the server wrote none."""
        return self.message.content or ""


class Usage(_Reply):
    """Tokens as the server counts them."""

    prompt_tokens: int
    completion_tokens: int | None = None


class Completion(_Reply):
    """The answer to one request."""

    choices: list[Choice]
    usage: Usage | None = None


class _StreamedChoice(_Reply):
    delta: _Delta = _Delta()
    finish_reason: str | None = None


class Chunk(_Reply):
    """One event of a stream; the last one has usage and no choice."""

    choices: list[_StreamedChoice] = []
    usage: Usage | None = None


class _Model(_Reply):
    id: str


class Models(_Reply):
    """The models that a server lists."""

    data: list[_Model]


def parsed(kind: type[Body], content: bytes | str) -> Body:
    """The body as ``kind``; raises ``EngineUnreachable`` with the name of what is missing, and no text of it."""
    try:
        return kind.model_validate_json(content)
    except ValidationError as error:
        first = error.errors(include_input=False)[0]
        place = ".".join(str(part) for part in first["loc"]) or "the body"
        raise EngineUnreachable(
            f"The upstream server's answer cannot be read: {place}: {first['msg']}; check that "
            f"ATTUNE_ENGINE__UPSTREAM_URL is the address of an OpenAI-compatible API."
        ) from None


def finish_of(reason: str | None) -> FinishReason:
    """How a completion ended; whatever is not a lack of room is an end."""
    return "length" if reason == "length" else "stop"


def refusal(status: int, detail: dict[str, Any], retry_after: int | None = None) -> AttuneError:
    """Our error for an answer that is none.

    Args:
        status: The HTTP status, or the code that a stream gives in its place.
        detail: The ``error`` object of the answer; anything may be missing from it.
        retry_after: Seconds that the server asks to wait.
    """
    if status in {429, 503}:
        return UpstreamOverloaded(status, max(1, retry_after or PAUSE_SECONDS))
    if status in {401, 403}:
        return EngineUnreachable(
            f"The upstream server refuses the key (HTTP {status}); set ATTUNE_ENGINE__UPSTREAM_KEY to one that may use "
            f"the model."
        )
    if status in {400, 413, 422}:
        return _invalid(status, detail)
    return EngineUnreachable(
        f"The upstream server answered HTTP {status}; check ATTUNE_ENGINE__UPSTREAM_URL and the server's own log."
    )


def _invalid(status: int, detail: dict[str, Any]) -> AttuneError:
    message = str(detail.get("message") or "no reason given")
    context = _CONTEXT.search(message)
    prompt = _PROMPT.search(message)
    if context and prompt:
        asked = re.search(r"requested (\d+) output|\((?:\d+) in the messages, (\d+) in the completion", message)
        return PromptTooLong(_number(prompt), _number(asked) if asked else 1, int(context[1]))
    if context or detail.get("code") == _TOO_LONG:
        return InvalidInput(f"The upstream server refuses the length: {_shortened(message)}", field="prompt")
    return InvalidInput(f"The upstream server refuses the request (HTTP {status}): {_shortened(message)}")


def _number(match: re.Match[str]) -> int:
    return int(next(group for group in match.groups() if group))


def _shortened(message: str) -> str:
    return message if len(message) <= _LONGEST_MESSAGE else message[:_LONGEST_MESSAGE] + "…"


def pause_of(header: str | None, now: float) -> int | None:
    """Seconds that a Retry-After header asks to wait, rounded up; None where it says nothing that can be read.

    Args:
        header: Seconds, or a date.
        now: The present, in seconds since 1970.
    """
    if header is None:
        return None
    try:
        seconds = float(header)
    except ValueError:
        try:
            seconds = parsedate_to_datetime(header).timestamp() - now
        except ValueError:
            return None
    return max(0, -int(-seconds // 1)) if 0 <= seconds < 1e9 else None


def check_listed(model: str | None, listed: Sequence[str]) -> str:
    """The model to ask for; raises ``InvalidInput`` unless it is listed, or is the only one where none is named."""
    some = ", ".join(listed[:8]) or "none"
    if model is None and len(listed) == 1:
        return listed[0]
    if model is None:
        raise InvalidInput(f"The upstream server lists {some}; name one in ATTUNE_ENGINE__UPSTREAM_MODEL.")
    if model not in listed:
        raise InvalidInput(f"The upstream server lists no '{model}' but {some}; mend ATTUNE_ENGINE__UPSTREAM_MODEL.")
    return model
