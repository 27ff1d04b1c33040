"""The routes that OpenAI's clients call."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse
from starlette.responses import Response as HttpResponse

from app.api.dependencies import MetricsOf, ServicesOf
from app.api.openai_schemas import ChatBody, CompletionEvents, completion, model_object
from app.errors import AttuneError, ModelNotFound, UserNotFound
from app.http.error_handlers import error_body, failure_of, request_id_of
from app.http.streaming import event, stream_items, unless_client_leaves

router = APIRouter(prefix="/v1", tags=["openai"])


@router.post("/chat/completions", response_model=None)
async def chat_completions(request: Request, body: ChatBody, services: ServicesOf, metrics: MetricsOf) -> HttpResponse:
    """A chat completion; personal with the personal model, or with ``personalization``."""
    if body.model not in services.models:
        raise ModelNotFound(body.model, services.models)
    body.check()
    created = datetime.now(UTC)
    asked = body.conversation(), body.how_personal(personal_model=body.model != services.model), body.sampling()
    headers = {"x-ignored-fields": ", ".join(body.ignored())} if body.ignored() else {}
    if not body.stream:
        with _naming_field(body):
            response = await unless_client_leaves(request, services.respond(*asked))
        metrics.response(response)
        return JSONResponse(completion(response, body, created), headers=headers)
    events = CompletionEvents(body, created)

    def fail(error: AttuneError) -> bytes:
        return event(error_body(failure_of(error), request.url.path, request_id_of(request)))

    with _naming_field(body):
        stream = await stream_items(metrics.streamed(services.stream_response(*asked)), events.of, fail)
    stream.headers.update(headers)
    return stream


@contextmanager
def _naming_field(body: ChatBody) -> Iterator[None]:
    """An unknown user is reported under the field that named them."""
    try:
        yield
    except UserNotFound as error:
        person = body.person()
        error.field = person and person[0]
        raise


@router.get("/models")
async def list_models(request: Request, services: ServicesOf) -> dict[str, Any]:
    """The base model and its personal form."""
    created = request.app.state.started_at
    return {"object": "list", "data": [model_object(name, created) for name in services.models]}


@router.get("/models/{model:path}")
async def get_model(model: str, request: Request, services: ServicesOf) -> dict[str, Any]:
    """One model."""
    if model not in services.models:
        raise ModelNotFound(model, services.models)
    return model_object(model, request.app.state.started_at)
