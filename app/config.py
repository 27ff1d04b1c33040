"""Settings, and the only reader of the environment. Knows what a setting means, not what is built from it."""

import difflib
import json
import os
from collections.abc import Mapping
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, SecretStr, ValidationError
from pydantic.functional_serializers import PlainSerializer
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from app.errors import ConfigurationError

PREFIX = "ATTUNE_"
ENGINE_PORT = 8001
TEST_PREFIX = "ATTUNE_TEST_"  # settings of the test suite, which a service started from the same shell may see
BUNDLED = Path(__file__).parent / "bundled"
EMBEDDED_DATABASE = Path(".attune") / "attune.db"
SECRET_ENDINGS = ("token", "key", "secret", "password")


def _http_address(url: str) -> str:
    """Refuse what no client can call, and what would print a password with every error."""
    try:
        parts = urlsplit(url)
        usable = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable or parts.query or parts.fragment:
        raise ValueError("must look like http://engine:8001, with nothing after the path")
    if parts.username is not None:
        raise ValueError("must hold no name and no password; those belong into the token or key")
    return url


def _in_a_header(secret: SecretStr) -> SecretStr:
    """Refuse what HTTP cannot carry as a bearer token."""
    text = secret.get_secret_value()
    if not (text.isascii() and text.isprintable()) or " " in text:
        raise ValueError("must be printable ASCII without blanks and line ends")
    return secret


def _decoded(value: object) -> object:
    """The object that a variable holds as JSON."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except ValueError:
        raise ValueError("must be a JSON object") from None


def _without_secrets(value: Any) -> Any:
    """The same with asterisks for texts whose names end like those of secrets."""
    if not isinstance(value, dict):
        return value
    return {
        name: "**********" if isinstance(one, str) and name.lower().endswith(SECRET_ENDINGS) else _without_secrets(one)
        for name, one in value.items()
    }


HttpAddress = Annotated[str, AfterValidator(_http_address)]
Token = Annotated[SecretStr, Field(min_length=16), AfterValidator(_in_a_header)]
JsonObject = Annotated[
    dict[str, Any], NoDecode, BeforeValidator(_decoded), PlainSerializer(_without_secrets, when_used="json")
]


class EngineSettings(BaseModel):
    """The engine that generates and scores.

    At most ``queue_size`` requests wait; up to ``max_rows`` candidates are decoded together, and ``prefix_tokens`` of
    prompts read lately are kept for those that begin alike. ``token`` guards the engine's own HTTP API. ``upstream_…``
    name the OpenAI-compatible server that generates for the ``openai`` backend, whether it is asked for all candidates
    of a call at once, and the exported checkpoint that it serves, if any; ``vllm`` are arguments of vLLM's engine as a
    JSON object. ``scripted_…`` are for load tests: seconds a request and a token take, and the share that fails.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    backend: Literal["transformers", "vllm", "openai", "scripted"] = "transformers"
    model: Path = BUNDLED / "model"
    basis: Path = BUNDLED / "basis"
    pool: Path = BUNDLED / "pool"
    device: Literal["auto", "cpu", "cuda"] = "auto"
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    threads: int | None = Field(default=None, ge=1, le=256)
    queue_size: int = Field(default=32, ge=1, le=10_000)
    max_rows: int = Field(default=64, ge=4, le=4096)
    prefix_tokens: int = Field(default=16_384, ge=0, le=100_000_000)
    timeout_seconds: float = Field(default=60.0, gt=0, le=3600)
    cached_candidates: int = Field(default=256, ge=0, le=1_000_000)
    token: Token | None = None
    upstream_url: HttpAddress | None = None
    upstream_model: str | None = None
    upstream_key: SecretStr | None = None
    upstream_one_request: bool = False
    upstream_exported: Path | None = None
    vllm: JsonObject = {}
    scripted_seconds: float = Field(default=0.0, ge=0, le=600)
    scripted_token_seconds: float = Field(default=0.0, ge=0, le=10)
    scripted_failures: float = Field(default=0.0, ge=0, le=1)


class AuthSettings(BaseModel):
    """Who may call the service. Without a choice, a token is needed except in the embedded default on loopback."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    required: bool | None = None
    token: Token | None = None


class PreferenceSettings(BaseModel):
    """How preferences are estimated. With a half-life, older comparisons count less; without, all count alike."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    half_life_days: float | None = Field(default=None, gt=0, le=36_500)


class QuestionSettings(BaseModel):
    """How questions are chosen and when they end.

    ``rule`` chooses single questions. A questionnaire ends once the chance that the response served is not the
    person's best is below ``minimum_change``; zero switches that off. The engine draws ``candidates`` of at most
    ``max_tokens`` for every question that it writes, and has ``timeout_seconds`` for all that follow one answer.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    rule: Literal["expected_information", "d_optimal", "v_optimal", "g_optimal", "pref", "thompson", "random"] = (
        "v_optimal"
    )
    minimum_change: float = Field(default=0.05, ge=0, le=1)
    candidates: int = Field(default=8, ge=2, le=64)
    max_tokens: int = Field(default=96, ge=1, le=4096)
    timeout_seconds: float = Field(default=30.0, gt=0, le=3600)


class Settings(BaseSettings):
    """Everything that can be set, by ``ATTUNE_…`` variables nested with ``__``."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, env_nested_delimiter="__", extra="forbid", frozen=True)

    host: str = "127.0.0.1"
    port: int = Field(default=8000, ge=0, le=65535)
    database_url: SecretStr | None = None
    engine_url: HttpAddress | None = None
    shutdown_seconds: int = Field(default=30, ge=1, le=3600)
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    engine: EngineSettings = EngineSettings()
    auth: AuthSettings = AuthSettings()
    preferences: PreferenceSettings = PreferenceSettings()
    questions: QuestionSettings = QuestionSettings()

    @property
    def embedded(self) -> bool:
        """Whether the service keeps its own SQLite file, and migrates it itself."""
        return self.database_url is None

    @property
    def database(self) -> str:
        """Address of the database in SQLAlchemy's form, with an asynchronous driver."""
        if self.database_url is None:
            return f"sqlite+aiosqlite:///{EMBEDDED_DATABASE.absolute()}"
        return _with_driver(self.database_url.get_secret_value())

    @property
    def token(self) -> str | None:
        """The bearer token that callers must send; None where anybody may call."""
        return self.auth.token.get_secret_value() if self.auth.token and self.auth_required else None

    @property
    def engine_token(self) -> str | None:
        """The bearer token of the engine's own HTTP API; None where anybody on this machine may call."""
        return self.engine.token.get_secret_value() if self.engine.token else None

    @property
    def auth_required(self) -> bool:
        """Whether callers need a token."""
        if self.auth.required is not None:
            return self.auth.required
        return self.auth.token is not None or not (self.embedded and _is_loopback(self.host))

    def redacted(self) -> dict[str, Any]:
        """All settings for printing; secrets show as asterisks."""
        return self.model_dump(mode="json")


def load_settings(*, needs_token: bool = True, **overrides: object) -> Settings:
    """Read and check the settings; raises ``ConfigurationError`` with the remedy.

    ``overrides`` that are not None go before the environment; without ``needs_token`` nobody is going to be served.
    """
    _refuse_unknown(os.environ)
    given = {name: value for name, value in overrides.items() if value is not None}
    try:
        settings = Settings(**given)  # type: ignore[arg-type]
    except ValidationError as error:
        raise ConfigurationError(_explain(error)) from None
    if needs_token:
        _check_auth(settings)
    return settings


def load_engine_settings(**overrides: object) -> Settings:
    """The settings of a process that is only an engine; raises ``ConfigurationError`` with the remedy.

    Its port is 8001 unless one is chosen, and without a token of its own it listens on a loopback host alone.
    """
    settings = load_settings(needs_token=False, **overrides)
    if "port" not in settings.model_fields_set:
        settings = settings.model_copy(update={"port": ENGINE_PORT})
    if settings.engine.token is None and not _is_loopback(settings.host):
        raise ConfigurationError(
            f"An engine that listens on '{settings.host}' needs a token; set {PREFIX}ENGINE__TOKEN to a secret of at "
            f"least 16 characters, for example the output of 'openssl rand -hex 32', or listen on 127.0.0.1."
        )
    return settings


def known_variables() -> list[str]:
    """Every ``ATTUNE_…`` variable that means something."""
    names = []
    for name, field in Settings.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            names += [f"{PREFIX}{name}__{nested}".upper() for nested in field.annotation.model_fields]
        else:
            names.append(f"{PREFIX}{name}".upper())
    return sorted(names)


def _refuse_unknown(environment: Mapping[str, str]) -> None:
    known = known_variables()
    for name in sorted(environment):
        upper = name.upper()
        if upper.startswith(PREFIX) and not upper.startswith(TEST_PREFIX) and upper not in known:
            nearest = difflib.get_close_matches(upper, known, n=1, cutoff=0.0)[0]
            raise ConfigurationError(f"Unknown variable {name}; the nearest known one is {nearest}.")


def _check_auth(settings: Settings) -> None:
    if settings.auth.required is False and not (settings.embedded and _is_loopback(settings.host)):
        raise ConfigurationError(
            f"{PREFIX}AUTH__REQUIRED=false works only with the embedded database on a loopback host, not on "
            f"'{settings.host}'; leave it out and set {PREFIX}AUTH__TOKEN, or unset {PREFIX}DATABASE_URL and listen "
            f"on 127.0.0.1."
        )
    if settings.auth_required and settings.auth.token is None:
        raise ConfigurationError(
            f"Callers need a token here and none is set; set {PREFIX}AUTH__TOKEN to a secret of at least 16 "
            f"characters, for example the output of 'openssl rand -hex 32'."
        )


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def _with_driver(url: str) -> str:
    """Name the asynchronous driver, which people leave out."""
    drivers = {"postgresql": "postgresql+psycopg", "postgres": "postgresql+psycopg", "sqlite": "sqlite+aiosqlite"}
    scheme, separator, rest = url.partition("://")
    if not separator or scheme.split("+")[0] not in drivers:
        raise ConfigurationError(
            f"{PREFIX}DATABASE_URL must look like postgresql://user@host:5432/name or sqlite:///path."
        )
    return f"{drivers[scheme.split('+')[0]]}://{rest}"


def _explain(error: ValidationError) -> str:
    """One line a setting, by the name of its variable and without its value."""
    lines = [
        f"{PREFIX}{'__'.join(str(part) for part in item['loc']).upper()}: {item['msg']}" for item in error.errors()
    ]
    return "; ".join(lines) + "."
