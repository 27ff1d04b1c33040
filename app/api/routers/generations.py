"""Personal generation, and ranking of responses written elsewhere."""

from collections.abc import Iterator

from fastapi import APIRouter, Request
from starlette.responses import Response as HttpResponse

from app.api.dependencies import MetricsOf, ServicesOf
from app.api.error_handlers import error_body, failure_of, request_id_of
from app.api.responses import GenerationView, RankingView
from app.api.schemas import GenerationBody, RankBody
from app.api.streaming import event, stream_events, unless_client_leaves, words
from app.errors import AttuneError
from app.services.respond import Response

router = APIRouter(prefix="/v1", tags=["generation"])


@router.post(
    "/generations",
    response_model=GenerationView,
    responses={200: {"content": {"text/event-stream": {}}, "description": "The generation, or its events"}},
)
async def generate(
    request: Request, body: GenerationBody, services: ServicesOf, metrics: MetricsOf
) -> GenerationView | HttpResponse:
    """Answer a prompt in a person's taste; with ``stream``, as events ``delta``, ``result`` and ``error``."""
    personalization = body.personalization.for_user(body.user_id)
    work = services.respond(body.conversation(), personalization, body.sampling())
    if not body.stream:
        response = await unless_client_leaves(request, work)
        metrics.response(response)
        return GenerationView.of(response, personalization.explain)

    def render(response: Response) -> Iterator[bytes]:
        metrics.response(response)
        view = GenerationView.of(response, personalization.explain)
        for word in words(view.text):
            yield event({"text": word}, "delta")
        yield event(view.model_dump(mode="json"), "result")

    def fail(error: AttuneError) -> bytes:
        return event(error_body(failure_of(error), request.url.path, request_id_of(request)), "error")

    return await stream_events(work, render, fail)


@router.post("/rank")
async def rank(request: Request, body: RankBody, services: ServicesOf) -> RankingView:
    """Order given responses by a person's reward, best first."""
    work = services.rank(body.user_id, body.conversation(), body.responses)
    return RankingView.of(await unless_client_leaves(request, work))
