"""Builds the decoder that the settings name, whichever process it is for. Knows no question pool and no HTTP.

The engines' own modules are imported only when chosen, in a thread: a server answers its probes meanwhile, and the
scripted engine starts on a machine without torch.
"""

import asyncio
import importlib.util
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from app.config import EngineSettings
from app.engine.host import Loaded, ServedEngine
from app.errors import ConfigurationError
from app.generation.observer import EngineObserver

if TYPE_CHECKING:
    from app.rewards.artifact import BasisArtifact
    from app.rewards.values import ValueHeads

SCRIPTED_SIZE = 4
LIBRARIES = {"torch": "engine", "transformers": "engine", "tokenizers": "engine", "vllm": "vllm"}
"""What an engine may lack, with the extra that brings it."""

Prepared = tuple[Callable[[], Any], int]
"""What constructs the engine, and K."""


async def open_decoder(settings: EngineSettings, observer: EngineObserver) -> Loaded:
    """The engine, started; it tells ``observer`` of its steps where it can.

    Raises:
        ArtifactError: If model, basis or value heads are broken.
        ArtifactIncompatible: If they do not fit together.
        ConfigurationError: If a library or a setting is missing.
    """
    try:
        construct, size = await asyncio.to_thread(_PREPARE[settings.backend], settings, observer)
    except ImportError as error:
        raise _explained(error) from error
    engine: ServedEngine = construct()
    try:
        await engine.start()  # type: ignore[attr-defined]
    except ImportError as error:
        await engine.close()
        raise _explained(error) from error
    except BaseException:
        await engine.close()
        raise
    return Loaded(engine, size, settings.backend, _collectors(engine, settings.backend))


def _transformers(settings: EngineSettings, observer: EngineObserver) -> Prepared:
    from app.generation.transformers_engine import TransformersEngine

    artifact = _basis(settings)
    engine = partial(
        TransformersEngine,
        settings.model,
        artifact,
        values=_values(settings, artifact),
        observer=observer,
        device=settings.device,
        dtype=settings.dtype,
        threads=settings.threads,
        queue_size=settings.queue_size,
        max_rows=settings.max_rows,
        prefix_tokens=settings.prefix_tokens,
        timeout_seconds=settings.timeout_seconds,
        cached_candidates=settings.cached_candidates,
    )
    return engine, len(artifact.basis.axes)


def _vllm(settings: EngineSettings, observer: EngineObserver) -> Prepared:
    if importlib.util.find_spec("vllm") is None:
        raise ImportError("vllm is not installed", name="vllm")
    from app.generation.vllm.vllm_engine import VllmEngine

    artifact = _basis(settings)
    engine = partial(
        VllmEngine,
        settings.model,
        artifact,
        values=_values(settings, artifact),
        observer=observer,
        dtype=settings.dtype,
        queue_size=settings.queue_size,
        max_rows=settings.max_rows,
        timeout_seconds=settings.timeout_seconds,
        cached_candidates=settings.cached_candidates,
        options=settings.vllm,
    )
    return engine, len(artifact.basis.axes)


def _openai(settings: EngineSettings, _observer: EngineObserver) -> Prepared:
    if settings.upstream_url is None:
        raise ConfigurationError(
            "The openai backend needs a server that generates; set ATTUNE_ENGINE__UPSTREAM_URL, for example to "
            "http://127.0.0.1:8080/v1."
        )
    from app.generation.upstream.openai_engine import OpenAIEngine

    artifact = _basis(settings)
    engine = partial(
        OpenAIEngine,
        settings.model,
        artifact,
        upstream_url=settings.upstream_url,
        upstream_model=settings.upstream_model,
        upstream_key=settings.upstream_key.get_secret_value() if settings.upstream_key else None,
        one_request=settings.upstream_one_request,
        exported=settings.upstream_exported,
        threads=settings.threads,
        device="cpu" if settings.device == "auto" else settings.device,  # it reads texts only: the upstream has the GPU
        queue_size=settings.queue_size,
        max_rows=settings.max_rows,
        timeout_seconds=settings.timeout_seconds,
        cached_candidates=settings.cached_candidates,
    )
    return engine, len(artifact.basis.axes)


def _scripted(settings: EngineSettings, _observer: EngineObserver) -> Prepared:
    from app.generation.scripted import ScriptedEngine

    engine = partial(
        ScriptedEngine,
        size=SCRIPTED_SIZE,
        queue_size=settings.queue_size,
        max_rows=settings.max_rows,
        timeout_seconds=settings.timeout_seconds,
        latency_seconds=settings.scripted_seconds,
        token_seconds=settings.scripted_token_seconds,
        failures=settings.scripted_failures,
    )
    return engine, SCRIPTED_SIZE


_PREPARE: dict[str, Callable[[EngineSettings, EngineObserver], Prepared]] = {
    "transformers": _transformers,
    "vllm": _vllm,
    "openai": _openai,
    "scripted": _scripted,
}


def _basis(settings: EngineSettings) -> "BasisArtifact":
    from app.rewards.artifact import load_basis

    return load_basis(settings.basis)


def _values(settings: EngineSettings, artifact: "BasisArtifact") -> "ValueHeads | None":
    """The value heads of the basis, checked against basis and model; None where it has none."""
    from app.rewards.values import check_values, load_values, values_directory

    directory: Path | None = values_directory(settings.basis)
    if directory is None:
        return None
    values = load_values(directory)
    if not (settings.model / "attune.json").is_file():  # an exported checkpoint's own description names its value heads
        check_values(values, artifact, settings.model)
    return values


def _collectors(engine: ServedEngine, backend: str) -> tuple[Any, ...]:
    """What an engine tells beyond its counters: the scripted one speaks vLLM's names, for dashboards under load."""
    if backend != "scripted":
        return ()
    from app.generation.scripted import ScriptedEngine
    from app.generation.scripted_metrics import VllmNames

    return (VllmNames(engine),) if isinstance(engine, ScriptedEngine) else ()


def _explained(error: ImportError) -> Exception:
    """What to install, where a library of an engine is missing; the error itself where something else is."""
    library = _missing_library(error)
    if library is None:
        return error
    return ConfigurationError(
        f'The engine needs {library}, which cannot be imported here; run "pip install '
        f"'attune[{LIBRARIES[library]}]'\", or set ATTUNE_ENGINE__BACKEND=scripted to try the API without a model."
    )


def _missing_library(error: BaseException | None) -> str | None:
    """The engine's library that an import failed for, also where another library reports it in its own words."""
    while error is not None:
        name = (error.name or "").partition(".")[0] if isinstance(error, ImportError) else ""
        if name in LIBRARIES:
            return name
        error = error.__cause__
    return None
