"""What the request bodies of both processes are made of, with the limits of every field. Knows no route."""

from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, model_validator

from app.entities import Conversation, Message, Role
from app.errors import EmptyPrompt, InvalidInput

LONGEST_TEXT = 100_000
DEFAULT_MAX_TOKENS = 128
DEFAULT_TEMPERATURE = 0.8
DEFAULT_TOP_P = 0.95


def storable(text: str) -> str:
    """Refuse what no database and no tokenizer takes."""
    if "\0" in text:
        raise ValueError("must not contain NUL characters")
    if any("\ud800" <= character <= "\udfff" for character in text):
        raise ValueError("must not contain lone surrogates")
    return text


Text = Annotated[str, AfterValidator(storable), StringConstraints(max_length=LONGEST_TEXT)]
Stop = Annotated[Text, StringConstraints(min_length=1, max_length=200)]


class Body(BaseModel):
    """A request body: no unknown fields, no numbers in quotes, no NaN."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False, hide_input_in_errors=True)


class Turn(Body):
    """One message of a conversation."""

    role: Role
    content: Text


class PromptBody(Body):
    """A prompt, or the messages of a conversation; ``prompt`` may hold messages too."""

    prompt: Text | None = None
    messages: Annotated[list[Turn], Field(min_length=1, max_length=200)] | None = None

    @model_validator(mode="before")
    @classmethod
    def _messages_as_prompt(cls, value: Any) -> Any:
        if isinstance(value, dict) and isinstance(value.get("prompt"), list) and "messages" not in value:
            return {**{key: item for key, item in value.items() if key != "prompt"}, "messages": value["prompt"]}
        return value

    def conversation(self, prefix: str = "") -> Conversation:
        """The conversation; ``prefix`` says where it stands in the body, for errors."""
        if self.prompt is not None and self.messages is not None:
            raise InvalidInput("Send prompt or messages, not both.", field=f"{prefix}prompt")
        if self.messages is not None:
            return to_conversation([(turn.role, turn.content) for turn in self.messages], f"{prefix}messages")
        if self.prompt is None or not self.prompt.strip():
            raise EmptyPrompt(f"{prefix}prompt")
        return (Message("user", self.prompt),)


class SamplingBody(PromptBody):
    """A prompt, and how completions of it are drawn."""

    max_tokens: Annotated[int, Field(ge=1, le=4096)] = DEFAULT_MAX_TOKENS
    temperature: Annotated[float, Field(ge=0, le=2)] = DEFAULT_TEMPERATURE
    top_p: Annotated[float, Field(gt=0, le=1)] = DEFAULT_TOP_P
    seed: Annotated[int, Field(ge=0, lt=2**63)] | None = None
    stop: Stop | Annotated[list[Stop], Field(max_length=4)] | None = None


def to_conversation(turns: list[tuple[Role, str]], field: str) -> Conversation:
    """Check the turns: none blank, system messages first, and the last one from the user."""
    for index, (role, content) in enumerate(turns):
        if not content.strip():
            raise EmptyPrompt(f"{field}.{index}.content")
        if role == "system" and any(earlier != "system" for earlier, _ in turns[:index]):
            raise InvalidInput("System messages come before all others.", field=f"{field}.{index}.role")
    if turns[-1][0] != "user":
        raise InvalidInput("The last message must be the user's.", field=f"{field}.{len(turns) - 1}.role")
    return tuple(Message(role, content) for role, content in turns)


def stops(stop: str | list[str] | None) -> tuple[str, ...]:
    """Stop strings as a tuple, however they were sent."""
    if stop is None:
        return ()
    return (stop,) if isinstance(stop, str) else tuple(stop)
