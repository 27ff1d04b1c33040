"""Turns every error into a response: problem+json on our routes, OpenAI's envelope on theirs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import Response

from app.errors import (
    AttuneError,
    Conflict,
    GuidanceUnavailable,
    InvalidInput,
    NotFound,
    PreconditionRequired,
    PreferencesChanged,
    Unauthorized,
    Unavailable,
)

STATUS_OF: Mapping[type[AttuneError], int] = {
    PreferencesChanged: 412,
    PreconditionRequired: 428,
    Unauthorized: 401,
    NotFound: 404,
    Conflict: 409,
    GuidanceUnavailable: 400,
    InvalidInput: 422,
    Unavailable: 503,
    AttuneError: 500,
}
"""The one table from class to status; a subclass stands before its base."""

CODE_OF_STATUS = {
    400: "invalid_body",
    404: "route_not_found",
    405: "method_not_allowed",
    413: "body_too_large",
    500: "internal_error",
}
TITLES = {
    400: "Bad request",
    401: "Unauthorized",
    404: "Not found",
    405: "Method not allowed",
    409: "Conflict",
    412: "Precondition failed",
    413: "Content too large",
    422: "Invalid request",
    428: "Precondition required",
    500: "Internal error",
    503: "Unavailable",
}
OPENAI_TYPES = {401: "authentication_error", 404: "not_found_error", 500: "server_error", 503: "server_error"}
CLIENT_CLOSED_REQUEST = 499


@dataclass(frozen=True)
class Failure:
    """What went wrong, before it takes either shape."""

    status: int
    code: str
    detail: str
    fields: Sequence[tuple[str, str]] = ()
    headers: Mapping[str, str] = field(default_factory=dict)


def is_openai(path: str) -> bool:
    """Whether a path belongs to the routes that OpenAI's clients call."""
    return path == "/v1/models" or path.startswith(("/v1/chat/", "/v1/models/"))


def failure_of(error: AttuneError) -> Failure:
    """What to tell a caller about an error of ours."""
    status = next(status for kind, status in STATUS_OF.items() if isinstance(error, kind))
    headers: dict[str, str] = {}
    if isinstance(error, Unavailable):
        headers["Retry-After"] = str(error.retry_after_seconds)
    if status == 409:
        headers["x-should-retry"] = "false"
    if status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    fields = [(error.field, error.message)] if error.field else []
    return Failure(status, error.code, error.message, fields, headers)


def error_body(failure: Failure, path: str, request_id: str) -> dict[str, Any]:
    """The body in the shape that the path's callers understand."""
    if is_openai(path):
        return _envelope(failure)
    return {
        "type": f"urn:attune:problem:{failure.code}",
        "title": TITLES.get(failure.status, "Error"),
        "status": failure.status,
        "detail": failure.detail,
        "instance": f"/requests/{request_id}",
        "code": failure.code,
        "request_id": request_id,
        "errors": [{"pointer": _pointer(name), "detail": detail} for name, detail in failure.fields],
    }


def error_response(failure: Failure, path: str, request_id: str) -> JSONResponse:
    """The response; OpenAI's callers get 400 for what is 422 on our routes."""
    if is_openai(path):
        status, media_type = (400 if failure.status == 422 else failure.status), "application/json"
    else:
        status, media_type = failure.status, "application/problem+json"
    body = error_body(failure, path, request_id)
    return JSONResponse(body, status, headers=dict(failure.headers), media_type=media_type)


def request_id_of(request: Request) -> str:
    """The id that the middleware gave this request."""
    return str(request.state.request_id)


def install(app: FastAPI) -> None:
    """Register the handlers; what none of them knows becomes a 500 in the outermost middleware."""
    app.add_exception_handler(AttuneError, _on_attune_error)
    app.add_exception_handler(RequestValidationError, _on_validation_error)
    app.add_exception_handler(HTTPException, _on_http_exception)
    app.add_exception_handler(ClientDisconnect, _on_disconnect)


def _respond(request: Request, failure: Failure) -> Response:
    return error_response(failure, request.url.path, request_id_of(request))


async def _on_attune_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, AttuneError)  # noqa: S101
    return _respond(request, failure_of(error))


async def _on_validation_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)  # noqa: S101
    problems = error.errors()
    if any(problem["type"] == "json_invalid" for problem in problems):
        return _respond(request, Failure(400, "invalid_json", "The body is not valid JSON."))
    fields = [(".".join(_location(problem["loc"])), str(problem["msg"])) for problem in problems]
    detail = "; ".join(f"{name}: {message}" if name else message for name, message in fields)
    return _respond(request, Failure(422, "invalid_request", detail, fields))


async def _on_http_exception(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101
    code = CODE_OF_STATUS.get(error.status_code, "http_error")
    return _respond(request, Failure(error.status_code, code, str(error.detail), headers=dict(error.headers or {})))


async def _on_disconnect(_request: Request, _error: Exception) -> Response:
    return Response(status_code=CLIENT_CLOSED_REQUEST)


def _location(location: Sequence[object]) -> list[str]:
    """The path to a field, without the part that names where it was sent."""
    return [str(part) for part in location if part not in {"body", "path", "query", "header"}]


def _pointer(name: str) -> str:
    """A field as a JSON pointer (RFC 6901)."""
    return "/" + name.replace("~", "~0").replace("/", "~1").replace(".", "/")


def _envelope(failure: Failure) -> dict[str, Any]:
    """OpenAI's shape of an error."""
    name = failure.fields[0][0] if failure.fields else None
    return {
        "error": {
            "message": failure.detail,
            "type": OPENAI_TYPES.get(failure.status, "invalid_request_error"),
            "param": "messages" if name == "prompt" else name,
            "code": failure.code,
        }
    }
