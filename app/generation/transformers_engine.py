"""The embedded engine: a Llama or Qwen2 checkpoint decoded by attune's own torch loop, one request at a time.

Implements ``ports.Decoder``. Everything that computes, the tokenizer included, runs in the worker's thread; the event
loop only waits. Where the basis has a trunk of its own, finished texts are read by it in a second pass; one with less
context than the model reads the beginning of a long text. Knows no users.
"""

import time
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import structlog
import torch
from jaxtyping import Float64

from app.entities import Candidate, CandidateSet, Conversation, Message, SamplingOptions
from app.errors import PromptTooLong, Unavailable
from app.generation.decoding import Heads, decode
from app.generation.worker import Check, EngineWorker
from app.rewards.artifact import BasisArtifact, check_model
from app.rewards.language import LanguageModel, load_language_model
from app.rewards.scorer import basis_rewards
from app.rewards.trunk import Trunk
from app.rewards.trunk_transformers import trunk_of

log = structlog.get_logger("attune.engine")

_LOADING_SECONDS = 3600.0
_SMALL_HIDDEN = 1024
_WARM_UP = SamplingOptions(max_tokens=4, temperature=1.0, top_p=0.9, seed=0)


def usual_threads(hidden: int, most: int) -> int:
    """One processor thread for models up to ``hidden`` 1024, ``most`` for larger ones.

    The products of a small model take less than a tenth of a millisecond. Splitting them gains little on an idle
    machine, and on a busy one every step waits for threads that are not running: a hundred times slower, measured
    with two threads on two busy cores.
    """
    return 1 if hidden <= _SMALL_HIDDEN else most


@dataclass(frozen=True)
class _Loaded:
    """What the worker's thread owns; there are no ``heads`` to read while decoding if ``trunk`` is another model."""

    model: LanguageModel
    trunk: Trunk
    heads: Heads


class TransformersEngine:
    """A language model with the heads of one basis, in this process.

    ``requests``, ``tokens_generated``, ``seconds_decoding`` and ``queue_length`` count since the start.
    """

    def __init__(
        self,
        model_directory: Path,
        artifact: BasisArtifact,
        *,
        threads: int | None = None,
        queue_size: int = 32,
        timeout_seconds: float = 60.0,
        cached_candidates: int = 256,
        device: str = "cpu",
    ) -> None:
        """Prepare an engine; ``start`` loads it.

        Args:
            model_directory: The checkpoint that the basis was made for.
            artifact: The basis.
            threads: Processor threads for one forward pass; None takes ``usual_threads``.
            queue_size: Requests that may wait while one is decoded.
            timeout_seconds: Deadline of one request, waiting included.
            cached_candidates: Candidate sets kept for requests that repeat (same conversation, options and seed).
            device: Where the model runs, as torch names it.
        """
        self._directory, self._artifact = Path(model_directory), artifact
        self._threads, self._device = threads, device
        self._worker = EngineWorker(queue_size=queue_size, timeout_seconds=timeout_seconds)
        self._kept: OrderedDict[tuple[Conversation, SamplingOptions], CandidateSet] = OrderedDict()
        self._capacity = cached_candidates
        self._loaded: _Loaded | None = None
        self.requests = 0
        self.tokens_generated = 0
        self.seconds_decoding = 0.0

    @property
    def model(self) -> str:
        """Name of the base model."""
        return self._artifact.basis.model

    @property
    def basis_version(self) -> str:
        """Version of the basis reward heads that are loaded."""
        return self._artifact.basis.version

    @property
    def queue_length(self) -> int:
        """Requests that wait."""
        return self._worker.queue_length

    async def start(self) -> None:
        """Load the model in the worker's thread and decode a few tokens, so that the first request is as fast as any.

        Raises:
            ArtifactError: If the checkpoint, or the basis' trunk, is missing or broken.
            ArtifactIncompatible: If the basis was made for another model, or the architecture is not supported.
        """
        self._loaded = await self._worker.run(self._load, timeout_seconds=_LOADING_SECONDS)

    async def close(self) -> None:
        """Finish the requests under way, then stop."""
        await self._worker.close()

    async def ready(self) -> bool:
        """Whether the model is loaded and warmed up, and its thread takes on work."""
        return self._loaded is not None and self._worker.accepting

    async def candidates(self, conversation: Conversation, n: int, options: SamplingOptions) -> CandidateSet:
        """Draw ``n`` completions of ``conversation`` with their basis rewards, from one prefill.

        Candidate i depends on the conversation, the options and i alone; what was drawn before is not drawn again,
        unless the options tell that it is not ``cacheable``: then no text of it stays in memory. Where the basis has
        a trunk of its own, rewards are of as much of a text as the trunk's context holds after the prompt.

        Raises:
            PromptTooLong: Before any decoding, if the prompt and ``options.max_tokens`` exceed the context, or the
                prompt leaves no room for a response in that of the basis' own trunk.
            EngineOverloaded: If the queue is full.
            EngineTimeout: After the deadline.
            NonFiniteReward: If the network yields values that are not finite.
            Unavailable: While the model is loading, or once the engine is closing.
        """
        self.requests += 1
        loaded = self._need_model()
        known = self._recall(conversation, n, options)
        if known is not None:
            return known

        def draw(check: Check) -> CandidateSet:
            ids = self._fitting_prompt(loaded, conversation, options.max_tokens)
            began = time.perf_counter()
            drawn = decode(loaded.model, loaded.heads, ids, n, options, check=check)
            if self._artifact.trunk is not None:
                drawn = self._scored(loaded.trunk, conversation, drawn, check)
            self.seconds_decoding += time.perf_counter() - began
            return CandidateSet(tuple(drawn), len(ids), sum(one.tokens for one in drawn))

        drawn = await self._worker.run(draw)
        self.tokens_generated += drawn.completion_tokens
        self._keep(conversation, options, drawn)
        return drawn

    async def basis_rewards(
        self, conversation: Conversation, responses: Sequence[str]
    ) -> Float64[np.ndarray, "responses basis"]:
        """Basis rewards of texts written elsewhere, each averaged over the response's tokens; none is truncated.

        Raises:
            PromptTooLong: If the conversation and a response exceed the context of what reads them.
            EngineOverloaded: If the queue is full.
            EngineTimeout: After the deadline.
            NonFiniteReward: If the network yields values that are not finite.
            Unavailable: While the model is loading, or once the engine is closing.
        """
        self.requests += 1
        trunk = self._need_model().trunk
        rows = [(conversation, response) for response in responses]
        return await self._worker.run(lambda check: basis_rewards(trunk, self._artifact, rows, check=check))

    def _load(self, check: Check) -> _Loaded:
        most = torch.get_num_threads()
        torch.set_num_threads(self._threads or 1)  # holds for the thread that calls it: the worker's
        check_model(self._artifact.manifest, self._directory)
        model = load_language_model(self._directory, device=self._device)
        torch.set_num_threads(self._threads or usual_threads(model.network.shape.hidden, most))
        trunk = trunk_of(self._artifact, model)
        if trunk.context < model.context:
            effect = "basis rewards of a response that is too long for the trunk are those of its beginning"
            log.warning("short_trunk", trunk_context=trunk.context, model_context=model.context, effect=effect)
        heads = Heads.none(model) if self._artifact.trunk else Heads.on(model, self._artifact)
        hello = (Message("user", "Hello"),)
        drawn = decode(model, heads, model.tokenizer.prompt_ids(hello), 2, _WARM_UP, check=check)
        self._scored(trunk, hello, drawn, check)
        return _Loaded(model, trunk, heads)

    def _fitting_prompt(self, loaded: _Loaded, conversation: Conversation, max_tokens: int) -> list[int]:
        """The prompt's token ids; raises ``PromptTooLong`` unless model and trunk have room for a response to it."""
        ids = loaded.model.tokenizer.prompt_ids(conversation)
        if len(ids) + max_tokens > loaded.model.context:
            raise PromptTooLong(len(ids), max_tokens, loaded.model.context)
        if self._artifact.trunk is not None:
            count = loaded.trunk.prompt_count(conversation)
            if count >= loaded.trunk.context:
                raise PromptTooLong(count, 1, loaded.trunk.context)
        return ids

    def _scored(
        self, trunk: Trunk, conversation: Conversation, drawn: Sequence[Candidate], check: Check
    ) -> list[Candidate]:
        """The candidates with the basis rewards that ``trunk`` gives to as much of their texts as it holds."""
        rows = [(conversation, one.text) for one in drawn]
        rewards = basis_rewards(trunk, self._artifact, rows, check=check, truncate=True)
        return [replace(one, basis_rewards=row) for one, row in zip(drawn, rewards, strict=True)]

    def _need_model(self) -> _Loaded:
        if self._loaded is None:
            raise Unavailable("The engine is still loading its model; try again when /readyz says so.")
        return self._loaded

    def _recall(self, conversation: Conversation, n: int, options: SamplingOptions) -> CandidateSet | None:
        """The first ``n`` of the candidates kept for this request, if there are as many."""
        if not options.cacheable:
            return None
        kept = self._kept.get((conversation, options))
        if kept is None or len(kept.candidates) < n:
            return None
        self._kept.move_to_end((conversation, options))
        first = kept.candidates[:n]
        return replace(kept, candidates=first, completion_tokens=sum(one.tokens for one in first))

    def _keep(self, conversation: Conversation, options: SamplingOptions, drawn: CandidateSet) -> None:
        """Keep what may be asked for again, and forget what was used longest ago."""
        if not options.cacheable:
            return
        self._kept[conversation, options] = drawn
        self._kept.move_to_end((conversation, options))
        while len(self._kept) > self._capacity:
            self._kept.popitem(last=False)
