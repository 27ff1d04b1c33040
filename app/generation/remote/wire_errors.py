"""Turns the problems that the engine's process answers with back into the errors that it raised."""

from collections.abc import Mapping, Sequence
from typing import Any

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
    UnsupportedOption,
)

_KNOWN: tuple[type[AttuneError], ...] = (
    InvalidInput,
    PromptTooLong,
    EmptyPrompt,
    UnsupportedOption,
    GuidanceUnavailable,
    Unavailable,
    EngineOverloaded,
    EngineTimeout,
    EngineUnreachable,
    NonFiniteReward,
)
_ERRORS: Mapping[str, type[AttuneError]] = {kind.code: kind for kind in _KNOWN}


def error_of(status: int, problem: object, retry_after: str | None = None) -> AttuneError:
    """The error that the engine's process raised, of the same class, from the problem that it answered with.

    Args:
        status: Status of the answer; 200 for a problem within a stream.
        problem: The decoded body, problem+json or OpenAI's envelope; anything else is trouble on the way.
        retry_after: The header of that name, in seconds.

    Returns:
        An error of a class in this module's table; ``EngineUnreachable`` where the answer is no problem of those.
    """
    told = problem if isinstance(problem, Mapping) else {}
    told = told["error"] if isinstance(told.get("error"), Mapping) else told
    code, message = told.get("code"), told.get("detail") or told.get("message")
    if status == 401:
        return EngineUnreachable("The engine refuses the token; set the same ATTUNE_ENGINE__TOKEN in both processes.")
    kind = _ERRORS.get(str(code)) or (InvalidInput if status in {413, 422} else None)
    if kind is None or not isinstance(message, str):
        where = told.get("request_id") or "none"
        return EngineUnreachable(
            f"The engine answered {status} ({code or 'no problem'}, request {where}); see its log."
        )
    error = kind.__new__(kind)
    AttuneError.__init__(error, message, field=_field(told))
    if isinstance(error, Unavailable):
        error.retry_after_seconds = int(retry_after) if retry_after and retry_after.isdigit() else 1
    return error


def _field(told: Mapping[str, Any]) -> str | None:
    """The field at fault, which a problem names by a JSON pointer and OpenAI's envelope as it is."""
    errors: Sequence[Any] = told.get("errors") or ()
    pointer = errors[0].get("pointer") if errors and isinstance(errors[0], Mapping) else None
    if isinstance(pointer, str):
        return pointer.removeprefix("/").replace("/", ".").replace("~1", "/").replace("~0", "~")
    param = told.get("param")
    return param if isinstance(param, str) else None
