"""The embedded engine: a Llama or Qwen2 checkpoint decoded by attune's own torch loop, many requests together.

Implements ``ports.Decoder``. Everything that computes, the tokenizer included, runs in the worker's thread; the event
loop only waits. Where the basis has a trunk of its own, finished texts are read by it in a second pass; one with less
context than the model reads the beginning of a long text. Knows no users.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Float64

from app.entities import (
    ANYBODY,
    Caller,
    CandidateSet,
    Conversation,
    DecodingSpeed,
    SamplingOptions,
    Steering,
    SteeringKind,
)
from app.errors import GuidanceUnavailable, InvalidInput, Unavailable
from app.generation.batch.drawing import Drawing
from app.generation.hardware import dtype_of, usual_device, usual_threads
from app.generation.kept import KeptCandidates
from app.generation.loaded_model import LoadedModel
from app.generation.observer import EngineObserver, Unobserved
from app.generation.worker import Check, EngineWorker
from app.rewards.artifact import BasisArtifact
from app.rewards.scorer import basis_rewards
from app.rewards.values import ValueHeads

__all__ = ["TransformersEngine", "usual_threads"]

_LOADING_SECONDS = 3600.0
_SCORED_TOKENS = 64

OnText = Callable[[str], None]


class TransformersEngine:
    """A language model with the heads of one basis, in this process.

    ``requests`` and ``tokens_generated`` count since the start; so do ``tokens_discarded``, those of them that ended in
    no candidate or in one that was dropped, and ``seconds_decoding``, the time spent in forward passes for them.
    """

    def __init__(
        self,
        model_directory: Path,
        artifact: BasisArtifact,
        *,
        values: ValueHeads | None = None,
        observer: EngineObserver | None = None,
        threads: int | None = None,
        queue_size: int = 32,
        max_rows: int = 64,
        prefix_tokens: int = 16_384,
        timeout_seconds: float = 60.0,
        cached_candidates: int = 256,
        device: str = "auto",
        dtype: Literal["auto", "float32", "bfloat16"] = "auto",
    ) -> None:
        """Prepare an engine; ``start`` loads it.

        Args:
            model_directory: The checkpoint that the basis was made for.
            artifact: The basis.
            values: Value heads made for both; without them nothing can be steered.
            observer: Told of what goes on, in the worker's thread.
            threads: Processor threads for one forward pass; None takes ``usual_threads``.
            queue_size: Requests that may wait for room.
            max_rows: Texts decoded together.
            prefix_tokens: Tokens of prompts read lately to keep for those that begin alike.
            timeout_seconds: Deadline of one request, waiting included.
            cached_candidates: Candidate sets kept for requests that repeat (same conversation, options and steering).
            device: Where the model runs, as torch names it; "auto" takes a GPU if there is one.
            dtype: Precision of weights and states; "auto" takes bfloat16 on a GPU and float32 elsewhere.
        """
        self._directory, self._artifact, self._values = Path(model_directory), artifact, values
        self._observer: EngineObserver = observer or Unobserved()
        self._threads, self._device, self._dtype = threads, device, dtype
        self._max_rows, self._prefix_tokens = max_rows, prefix_tokens
        self._worker = EngineWorker(queue_size=queue_size, timeout_seconds=timeout_seconds)
        self._kept = KeptCandidates(cached_candidates)
        self._loaded: LoadedModel | None = None
        self.requests = 0
        self.tokens_generated = 0
        self.tokens_discarded = 0

    @property
    def model(self) -> str:
        """Name of the base model."""
        return self._artifact.basis.model

    @property
    def basis_version(self) -> str:
        """Version of the basis reward heads that are loaded."""
        return self._artifact.basis.version

    @property
    def steering(self) -> frozenset[SteeringKind]:
        """Every kind where there are value heads, and none without them."""
        return frozenset() if self._values is None else frozenset({"token", "block", "early_stopping"})

    @property
    def speed(self) -> DecodingSpeed | None:
        """How fast it decodes, as measured lately; None before the model is loaded."""
        return None if self._loaded is None else self._loaded.scheduler.times.speed

    @property
    def queue_length(self) -> int:
        """Requests that wait."""
        return self._worker.queue_length

    @property
    def rows(self) -> int:
        """Texts that are being decoded."""
        return 0 if self._loaded is None else self._loaded.scheduler.rows

    @property
    def seconds_decoding(self) -> float:
        """Seconds spent on candidates, reading them with the basis' own trunk included."""
        return 0.0 if self._loaded is None else self._loaded.scheduler.seconds + self._loaded.seconds_scoring

    async def start(self) -> None:
        """Load the model in the worker's thread and decode a few tokens, so that the first request is as fast as any.

        Raises:
            ArtifactError: If the checkpoint, or the basis' trunk, is missing or broken.
            ArtifactIncompatible: If basis or value heads were made for another model, or the architecture is not
                supported.
        """
        self._loaded = await self._worker.run(self._load, timeout_seconds=_LOADING_SECONDS)

    async def close(self) -> None:
        """Finish the requests under way, then stop."""
        await self._worker.close()

    async def ready(self) -> bool:
        """Whether the model is loaded and warmed up, and its thread takes on work."""
        return self._loaded is not None and self._worker.accepting

    async def forget(self) -> None:
        """Drop every text and prompt kept for reuse, at once; what is being decoded goes on, but is not kept."""
        self._kept.forget()
        if self._loaded is not None:
            self._loaded.scheduler.prefixes.forget()

    async def candidates(
        self,
        conversation: Conversation,
        n: int,
        options: SamplingOptions,
        *,
        steering: Steering | None = None,
        caller: Caller = ANYBODY,
    ) -> CandidateSet:
        """Draw ``n`` completions of ``conversation`` with their basis rewards, from one prefill.

        Candidate i depends on the conversation, the options, the steering and i alone, except where early stopping
        compares it with the others. What was drawn before is not drawn again, unless the options tell that it is not
        ``cacheable``: then no candidate stays in memory, though the prompt may, for the conversation's next turn.
        Where the basis has a trunk of its own, rewards are of as much of a text as the trunk's context holds after
        the prompt.

        Raises:
            PromptTooLong: Before any decoding, if the prompt and ``options.max_tokens`` exceed the context, or the
                prompt leaves no room for a response in that of the basis' own trunk.
            InvalidInput: If the coefficients are not K finite numbers.
            GuidanceUnavailable: If there are no value heads for the steering.
            EngineOverloaded: If the queue is full.
            EngineTimeout: After the engine's deadline or the caller's.
            NonFiniteReward: If the network yields values that are not finite.
            Unavailable: While the model is loading, or once the engine is closing.
        """
        return await self._draw(conversation, n, options, steering, caller, None)

    async def stream(
        self,
        conversation: Conversation,
        options: SamplingOptions,
        *,
        steering: Steering | None = None,
        caller: Caller = ANYBODY,
    ) -> AsyncGenerator[str | CandidateSet, None]:
        """One completion as it is written: pieces of text, then the set that ``candidates`` with n=1 would return.

        A piece comes as soon as nothing that follows can change it. Raises as ``candidates``.
        """
        loop, pieces = asyncio.get_running_loop(), asyncio.Queue[str | None]()

        def on_text(piece: str) -> None:
            loop.call_soon_threadsafe(pieces.put_nowait, piece)

        task = asyncio.create_task(self._draw(conversation, 1, options, steering, caller, on_text))
        task.add_done_callback(lambda _: pieces.put_nowait(None))
        try:
            told = ""
            while (piece := await pieces.get()) is not None:
                told += piece
                yield piece
            drawn = await task
            text = drawn.candidates[0].text
            if len(text) > len(told):
                yield text[len(told) :]
            yield drawn
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError, Exception):
                await task

    async def basis_rewards(
        self, conversation: Conversation, responses: Sequence[str], *, caller: Caller = ANYBODY
    ) -> Float64[np.ndarray, "responses basis"]:
        """Basis rewards of texts written elsewhere, each averaged over the response's tokens; none is truncated.

        Raises:
            PromptTooLong: If the conversation and a response exceed the context of what reads them.
            EngineOverloaded: If the queue is full.
            EngineTimeout: After the engine's deadline or the caller's.
            NonFiniteReward: If the network yields values that are not finite.
            Unavailable: While the model is loading, or once the engine is closing.
        """
        self.requests += 1
        trunk = self._need_model().trunk
        rows = [(conversation, response) for response in responses]
        work = partial(basis_rewards, trunk, self._artifact, rows)
        return await self._worker.run(
            lambda check: work(check=check), caller=caller, cost=float(_SCORED_TOKENS * max(1, len(rows)))
        )

    async def _draw(
        self,
        conversation: Conversation,
        n: int,
        options: SamplingOptions,
        steering: Steering | None,
        caller: Caller,
        on_text: OnText | None,
    ) -> CandidateSet:
        self.requests += 1
        loaded = self._need_model()
        self._check_steering(steering)
        known = self._kept.recall(conversation, n, options, steering) if options.cacheable else None
        if known is not None:
            return known

        def prepare() -> Drawing:
            ids = loaded.fitting_prompt(conversation, options.max_tokens)
            make = partial(Drawing, ids, n, options, loaded.model.tokenizer)
            return make(steering=steering, guide=loaded.guide, on_text=on_text)

        rows, epoch = _rows(n, options, steering), self._kept.epoch
        settle = partial(self._settle, loaded, conversation)
        drawn = await self._worker.decode(
            prepare, settle, rows=rows, caller=caller, cost=float(rows * options.max_tokens)
        )
        self._kept.keep(conversation, options, drawn, steering, epoch=epoch)
        return drawn

    def _settle(self, loaded: LoadedModel, conversation: Conversation, drawing: Drawing, check: Check) -> CandidateSet:
        """The set of a finished drawing, in the worker's thread."""
        candidates = drawing.candidates()
        if self._artifact.trunk is not None:
            candidates = loaded.score(conversation, candidates, check)
        copies = drawing.n // drawing.distinct
        self.tokens_generated += drawing.generated * copies
        self.tokens_discarded += drawing.discarded * copies
        self._observer.on_reward(np.stack([one.basis_rewards for one in candidates]))
        return CandidateSet(
            tuple(candidates),
            len(drawing.prompt_ids),
            drawing.generated * copies,
            drawing.discarded * copies,
            drawing.reused,
        )

    def _load(self, check: Check) -> LoadedModel:
        device = usual_device() if self._device == "auto" else self._device
        loaded = LoadedModel.load(
            self._directory,
            self._artifact,
            self._values,
            device=device,
            dtype=dtype_of(self._dtype, device),
            threads=self._threads,
            max_rows=self._max_rows,
            prefix_tokens=self._prefix_tokens,
        )
        loaded.warm_up(self._observer, check)
        self._worker.decode_with(loaded.scheduler, self._max_rows)
        return loaded

    def _need_model(self) -> LoadedModel:
        if self._loaded is None:
            raise Unavailable("The engine is still loading its model; try again when /readyz says so.")
        return self._loaded

    def _check_steering(self, steering: Steering | None) -> None:
        if steering is None:
            return
        for kind in sorted(steering.kinds - self.steering):
            raise GuidanceUnavailable(kind)
        size = len(self._artifact.basis.axes)
        if len(steering.coefficients) != size or not np.isfinite(steering.coefficients).all():
            raise InvalidInput(
                f"Steering has {len(steering.coefficients)} coefficients; send {size} finite numbers, one for each "
                f"basis reward of {self.basis_version}.",
                field="steering.coefficients",
            )


def _rows(n: int, options: SamplingOptions, steering: Steering | None) -> int:
    """Rows of the running batch that a request takes, before anything of it is known to be without effect."""
    blocks = steering is not None and steering.guidance == "block" and steering.strength != 0
    return 1 if options.temperature == 0 else n * (steering.continuations if steering is not None and blocks else 1)
