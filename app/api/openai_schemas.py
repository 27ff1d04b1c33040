"""What OpenAI's clients send to chat completions, and the objects they get back."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from app.api.dependencies import UserId
from app.api.generation_views import PersonalizationView, UsageView
from app.api.schemas import PersonalizationBody
from app.entities import Conversation, Role
from app.errors import ConflictingUserId, InvalidInput, UnsupportedOption
from app.http.bodies import (
    DEFAULT_MAX_TOKENS,
    DEFAULT_TEMPERATURE,
    DEFAULT_TOP_P,
    Body,
    Stop,
    Text,
    stops,
    to_conversation,
)
from app.http.streaming import event, words
from app.services.modes import Explain, Personalization, Sampling
from app.services.respond import Response
from app.services.stream_response import Piece

HARMLESS: dict[str, tuple[Any, ...]] = {
    "tools": ([],),
    "tool_choice": ("none", "auto"),
    "functions": ([],),
    "function_call": ("none", "auto"),
    "response_format": ({"type": "text"},),
    "logprobs": (False,),
    "top_logprobs": (0,),
    "logit_bias": ({},),
    "frequency_penalty": (0,),
    "presence_penalty": (0,),
    "modalities": (["text"],),
    "audio": (),
    "prediction": (),
    "web_search_options": (),
}
"""Options that would change the meaning of the answer, with the values that do not."""
CHUNK = "chat.completion.chunk"
LONGEST_NAME = 64
MOST_NAMES = 20


class ContentPart(BaseModel):
    """A part of a message; only text is understood."""

    model_config = ConfigDict(extra="forbid", strict=True)

    type: Literal["text"]
    text: Text


class ChatTurn(BaseModel):
    """One message; ``developer`` is OpenAI's newer name for ``system``."""

    model_config = ConfigDict(extra="ignore", strict=True)

    role: Literal["system", "developer", "user", "assistant"]
    content: Text | list[ContentPart]

    def turn(self) -> tuple[Role, str]:
        """Role and text as our routes take them."""
        role: Role = "system" if self.role == "developer" else self.role
        return role, self.content if isinstance(self.content, str) else "".join(part.text for part in self.content)


class StreamOptions(BaseModel):
    """Whether a stream ends with the tokens spent."""

    model_config = ConfigDict(extra="ignore", strict=True)

    include_usage: bool = False


class ChatPersonalization(PersonalizationBody):
    """Our options, which travel in ``extra_body``; this ``user_id`` goes before OpenAI's fields."""

    user_id: UserId | None = None


class ChatBody(Body):
    """A chat completion request; options without effect here are ignored and named in a header."""

    model_config = ConfigDict(extra="allow", strict=True, allow_inf_nan=False)

    model: Text
    messages: Annotated[list[ChatTurn], Field(min_length=1, max_length=200)]
    n: Annotated[int, Field(ge=1, le=64)] | None = None
    max_tokens: Annotated[int, Field(ge=1, le=4096)] | None = None
    max_completion_tokens: Annotated[int, Field(ge=1, le=4096)] | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    seed: Annotated[int, Field(ge=-(2**63), lt=2**63)] | None = None
    stop: Stop | Annotated[list[Stop], Field(max_length=4)] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    user: UserId | None = None
    safety_identifier: UserId | None = None
    personalization: ChatPersonalization | None = None

    def check(self) -> None:
        """Refuse what would silently change the answer; raises ``UnsupportedOption`` or ``InvalidInput``."""
        for option, harmless in HARMLESS.items():
            value = (self.model_extra or {}).get(option)
            if value is not None and value not in harmless:
                raise UnsupportedOption(option)
        both = self.max_tokens is not None and self.max_completion_tokens is not None
        if both and self.max_tokens != self.max_completion_tokens:
            raise InvalidInput("max_tokens and max_completion_tokens differ; send one of them.", field="max_tokens")

    def ignored(self) -> list[str]:
        """Fields that were sent and have no effect: at most so many, and such as a header can hold."""
        names = (name for name in self.model_extra or {} if name not in HARMLESS and len(name) <= LONGEST_NAME)
        return sorted(name for name in names if name.isascii() and name.isidentifier())[:MOST_NAMES]

    def conversation(self) -> Conversation:
        """The conversation; raises ``EmptyPrompt`` or ``InvalidInput``."""
        return to_conversation([turn.turn() for turn in self.messages], "messages")

    def person(self) -> tuple[str, str] | None:
        """The field that names whom the answer is for, and their id; raises ``ConflictingUserId``."""
        given = {
            "personalization.user_id": self.personalization.user_id if self.personalization else None,
            "safety_identifier": self.safety_identifier,
            "user": self.user,
        }
        named = {field: user_id for field, user_id in given.items() if user_id is not None}
        if len(set(named.values())) > 1:
            raise ConflictingUserId(tuple(named))
        return next(iter(named.items()), None)

    def how_personal(self, personal_model: bool) -> Personalization:
        """The base model answers anybody as it is, unless ``personalization`` was sent; the personal one chooses."""
        if self.personalization is None and not personal_model:
            return Personalization(mode="off")
        person = self.person()
        wanted = (self.personalization or ChatPersonalization()).for_user(person and person[1])
        return wanted if self._tells_personalization else replace(wanted, explain="none")

    def sampling(self) -> Sampling:
        """The options as the use case takes them."""
        return Sampling(
            max_tokens=self.max_completion_tokens or self.max_tokens or DEFAULT_MAX_TOKENS,
            temperature=DEFAULT_TEMPERATURE if self.temperature is None else self.temperature,
            top_p=DEFAULT_TOP_P if self.top_p is None else self.top_p,
            seed=None if self.seed is None else self.seed % 2**63,
            stop=stops(self.stop),
            count=self.n or 1,
        )

    @property
    def explain(self) -> Explain:
        """How much to tell about the choice."""
        return self.personalization.explain if self.personalization else "summary"

    @property
    def with_usage(self) -> bool:
        """Whether a stream ends with the tokens spent, and with the choice."""
        return self.stream_options is not None and self.stream_options.include_usage

    @property
    def _tells_personalization(self) -> bool:
        """Whether anybody will read how the response was made; nothing need be drawn to explain it otherwise."""
        return not self.stream or self.with_usage


def completion(response: Response, body: ChatBody, created: datetime) -> dict[str, Any]:
    """A ``chat.completion`` object."""
    choices = [
        {
            "index": index,
            "message": {"role": "assistant", "content": scored.candidate.text, "refusal": None},
            "logprobs": None,
            "finish_reason": scored.candidate.finish_reason,
        }
        for index, scored in enumerate(response.chosen)
    ]
    return {
        **_head(response.id, body, created, "chat.completion"),
        "choices": choices,
        "usage": UsageView.of(response).model_dump(),
        "personalization": _personalization(response, body),
    }


@dataclass
class CompletionEvents:
    """The same as a stream of ``chat.completion.chunk`` objects, ended by ``[DONE]``."""

    body: ChatBody
    created: datetime
    _pieces: bool = False

    def of(self, item: Piece | Response) -> Iterator[bytes]:
        """The events of a piece, or of the response: its end where pieces came before, and all of it otherwise."""
        if isinstance(item, Piece):
            if not self._pieces:
                self._pieces = True
                yield self._delta(item.response_id, 0, {"role": "assistant", "content": ""})
            yield self._delta(item.response_id, 0, {"content": item.text})
            return
        for index, scored in enumerate(item.chosen):
            if not self._pieces:
                yield self._delta(item.id, index, {"role": "assistant", "content": ""})
                for word in words(scored.candidate.text):
                    yield self._delta(item.id, index, {"content": word})
            yield self._delta(item.id, index, {}, scored.candidate.finish_reason)
        if self.body.with_usage:
            usage, personalization = UsageView.of(item).model_dump(), _personalization(item, self.body)
            head = _head(item.id, self.body, self.created, CHUNK)
            yield event({**head, "choices": [], "usage": usage, "personalization": personalization})
        yield b"data: [DONE]\n\n"

    def _delta(self, response_id: str, index: int, delta: dict[str, str], finish_reason: str | None = None) -> bytes:
        choice = {"index": index, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
        nothing: dict[str, Any] = {"usage": None} if self.body.with_usage else {}
        return event({**_head(response_id, self.body, self.created, CHUNK), "choices": [choice], **nothing})


def model_object(name: str, created: datetime) -> dict[str, Any]:
    """A ``model`` object."""
    return {"id": name, "object": "model", "created": int(created.timestamp()), "owned_by": "attune"}


def _head(response_id: str, body: ChatBody, created: datetime, kind: str) -> dict[str, Any]:
    return {"id": response_id, "object": kind, "created": int(created.timestamp()), "model": body.model}


def _personalization(response: Response, body: ChatBody) -> dict[str, Any]:
    return PersonalizationView.of(response, body.explain).model_dump(exclude_none=True)
