"""Generate a response and pass it on while it is being written, where only one is."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass

from app.entities import CandidateSet, Conversation
from app.errors import Unavailable
from app.services.modes import Personalization, Sampling
from app.services.respond import Respond, Response


@dataclass(frozen=True)
class Piece:
    """Some more text of the response ``response_id``."""

    response_id: str
    text: str


@dataclass(frozen=True)
class StreamResponse:
    """As ``Respond``, with the text in pieces before the response, unless it must be chosen among several first."""

    respond: Respond

    async def __call__(
        self, conversation: Conversation, personalization: Personalization, sampling: Sampling
    ) -> AsyncGenerator[Piece | Response, None]:
        """Pieces, which together are the response's text, then the response; or the response alone.

        Closing the iterator ends the decoding. Raises as ``Respond`` does.
        """
        job = await self.respond.prepare(conversation, personalization, sampling)
        plan, decoder = job.plan, self.respond.decoder
        if plan.n > 1:
            chosen_from = await decoder.candidates(
                conversation, plan.n, job.options, steering=plan.steering, caller=job.caller
            )
            yield await self.respond.finish(job, chosen_from)
            return
        drawn: CandidateSet | None = None
        pieces = decoder.stream(conversation, job.options, steering=plan.steering, caller=job.caller)
        async with aclosing(pieces):  # closed before more is asked of the engine: it may hold the only place
            async for item in pieces:
                if isinstance(item, CandidateSet):
                    drawn = item
                else:
                    yield Piece(job.id, item)
        if drawn is None:
            raise Unavailable("The engine ended a response before it was complete; try again.")
        yield await self.respond.finish(job, drawn)
