"""Personal generation, and ranking of responses written elsewhere."""

from collections.abc import Iterator
from dataclasses import dataclass

from fastapi import APIRouter, Request
from starlette.responses import Response as HttpResponse

from app.api.dependencies import MetricsOf, ServicesOf
from app.api.generation_views import GenerationView, RankingView
from app.api.schemas import GenerationBody, RankBody
from app.errors import AttuneError
from app.http.error_handlers import error_body, failure_of, request_id_of
from app.http.streaming import event, stream_items, unless_client_leaves, words
from app.services.modes import Explain
from app.services.respond import Response
from app.services.stream_response import Piece

router = APIRouter(prefix="/v1", tags=["generation"])


@router.post(
    "/generations",
    response_model=GenerationView,
    responses={200: {"content": {"text/event-stream": {}}, "description": "The generation, or its events"}},
)
async def generate(
    request: Request, body: GenerationBody, services: ServicesOf, metrics: MetricsOf
) -> GenerationView | HttpResponse:
    """Answer a prompt in a person's taste; with ``stream``, as events ``delta``, ``result`` and ``error``.

    A stream brings the text while it is written, unless the best of several candidates is: then it is pinged until that
    is known.
    """
    personalization = body.personalization.for_user(body.user_id)
    asked = body.conversation(), personalization, body.sampling()
    if not body.stream:
        response = await unless_client_leaves(request, services.respond(*asked))
        metrics.response(response)
        return GenerationView.of(response, personalization.explain)
    events = GenerationEvents(personalization.explain)

    def fail(error: AttuneError) -> bytes:
        return event(error_body(failure_of(error), request.url.path, request_id_of(request)), "error")

    return await stream_items(metrics.streamed(services.stream_response(*asked)), events.of, fail)


@dataclass
class GenerationEvents:
    """Deltas of the text, then the result."""

    explain: Explain
    _pieces: bool = False

    def of(self, item: Piece | Response) -> Iterator[bytes]:
        """The events of a piece, or of the response, with its words where no pieces came before."""
        if isinstance(item, Piece):
            self._pieces = True
            yield event({"text": item.text}, "delta")
            return
        view = GenerationView.of(item, self.explain)
        if not self._pieces:
            yield from (event({"text": word}, "delta") for word in words(view.text))
        yield event(view.model_dump(mode="json"), "result")


@router.post("/rank")
async def rank(request: Request, body: RankBody, services: ServicesOf) -> RankingView:
    """Order given responses by a person's reward, best first."""
    work = services.rank(body.user_id, body.conversation(), body.responses)
    return RankingView.of(await unless_client_leaves(request, work))
