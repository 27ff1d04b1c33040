"""A deterministic engine without a model: texts and basis rewards are functions of hashes.

Behaves like the real engine towards its callers (order, seeds, stop strings, limits, errors), and counts words as
tokens. For tests, and for machines without torch.
"""

import asyncio
import hashlib
import time
from collections import deque
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import lru_cache

import numpy as np
from jaxtyping import Float64

from app.entities import Candidate, CandidateSet, Conversation, FinishReason, SamplingOptions
from app.errors import EngineOverloaded, EngineTimeout, PromptTooLong

_WORDS = (
    "a an and are as before begin bring calm careful clear day each easy enjoy evening every fine first for fresh "
    "gentle give good great help here home idea in is it keep kind learn light list little long look make maybe "
    "morning much need new next note often one open perhaps place plain plan please quick quiet read ready rest "
    "right see share short simple slow small sometimes soon start steady step still sure take talk thank that the "
    "then there think time to today together try two use usually very wait walk warm water way week well what when "
    "why will with wonderful work write you your "
).split()
_SHORTEST, _LONGEST = 6, 60
_SPREAD = 4.0


class ScriptedEngine:
    """Implements ``ports.Decoder`` in a few microseconds a candidate.

    ``requests``, ``tokens_generated``, ``seconds_decoding`` and ``queue_length`` count as the real engine's do.
    """

    def __init__(
        self,
        *,
        model: str = "scripted",
        basis_version: str = "scripted",
        size: int = 4,
        context: int = 512,
        queue_size: int = 32,
        timeout_seconds: float = 60.0,
        latency_seconds: float = 0.0,
    ) -> None:
        """Prepare an engine that is ready at once.

        Args:
            model: Name of the base model to report.
            basis_version: Version of the basis to report.
            size: K, the number of basis rewards.
            context: Words that prompt and completion may have together.
            queue_size: Calls that may wait while one is answered.
            timeout_seconds: Deadline of one call, waiting included.
            latency_seconds: How long every call takes.
        """
        self.model, self.basis_version, self.size = model, basis_version, size
        self.context, self.queue_size = context, queue_size
        self.timeout_seconds, self.latency_seconds = timeout_seconds, latency_seconds
        self.requests = 0
        self.tokens_generated = 0
        self.seconds_decoding = 0.0
        self._inside = 0
        self._turn = asyncio.Lock()
        self._failures: deque[Exception] = deque()

    @property
    def queue_length(self) -> int:
        """Calls that wait while one is answered."""
        return max(0, self._inside - 1)

    async def start(self) -> None:
        """Nothing to load."""

    async def close(self) -> None:
        """Nothing to release."""

    async def ready(self) -> bool:
        """Always."""
        return True

    def fail_next(self, error: Exception) -> None:
        """Let the next call that gets its turn raise ``error``; several are raised in order, one a call."""
        self._failures.append(error)

    async def candidates(self, conversation: Conversation, n: int, options: SamplingOptions) -> CandidateSet:
        """``n`` texts that depend on the conversation, ``options`` and their number alone.

        Raises:
            PromptTooLong: If the prompt's words and ``options.max_tokens`` exceed the context.
            EngineOverloaded: If the queue is full.
            EngineTimeout: After the deadline.
        """
        async with self._slot():
            prompt_tokens = _words_of(conversation)
            if prompt_tokens + options.max_tokens > self.context:
                raise PromptTooLong(prompt_tokens, options.max_tokens, self.context)
            drawn = tuple(self._candidate(conversation, number, options) for number in range(n))
            tokens = sum(one.tokens for one in drawn)
            self.tokens_generated += tokens
            return CandidateSet(drawn, prompt_tokens, tokens)

    async def basis_rewards(
        self, conversation: Conversation, responses: Sequence[str]
    ) -> Float64[np.ndarray, "responses basis"]:
        """Basis rewards (responses, K): for each response the average over its words of a fixed vector a word.

        Raises:
            PromptTooLong: If the words of the conversation and a response exceed the context.
            EngineOverloaded: If the queue is full.
            EngineTimeout: After the deadline.
        """
        async with self._slot():
            prompt_tokens = _words_of(conversation)
            longest = max((len(response.split()) for response in responses), default=0)
            if prompt_tokens + longest > self.context:
                raise PromptTooLong(prompt_tokens, longest, self.context)
            return np.array([self._rewards(response) for response in responses]).reshape(-1, self.size)

    @asynccontextmanager
    async def _slot(self) -> AsyncIterator[None]:
        """A turn of the engine: one call at a time, a bounded number waiting, a deadline, and failures as scripted."""
        self.requests += 1
        if self._inside > self.queue_size:
            raise EngineOverloaded(self.queue_length)
        self._inside += 1
        began = time.perf_counter()
        try:
            async with asyncio.timeout(self.timeout_seconds), self._turn:
                began = time.perf_counter()
                await asyncio.sleep(self.latency_seconds)
                if self._failures:
                    raise self._failures.popleft()
                yield
                self.seconds_decoding += time.perf_counter() - began
        except TimeoutError as error:
            raise EngineTimeout(self.timeout_seconds) from error
        finally:
            self._inside -= 1

    def _candidate(self, conversation: Conversation, number: int, options: SamplingOptions) -> Candidate:
        source = (options.seed, number) if options.temperature > 0 else ()
        rng = np.random.default_rng(_digest(repr((conversation, source))))
        count = int(rng.integers(_SHORTEST, _LONGEST))
        words = [_WORDS[place] for place in rng.integers(len(_WORDS), size=count)][: options.max_tokens]
        text = " ".join(words)
        finish: FinishReason = "stop" if len(words) == count else "length"
        stops = [place for place in map(text.find, options.stop) if place >= 0]
        if stops:
            text, finish = text[: min(stops)].strip(), "stop"
        return Candidate(text, len(text.split()), finish, self._rewards(text))

    def _rewards(self, text: str) -> Float64[np.ndarray, " basis"]:
        vectors = [_word_vector(word, self.size) for word in text.split()]
        return _SPREAD * np.mean(vectors, axis=0) if vectors else np.zeros(self.size)


@lru_cache(maxsize=4096)
def _word_vector(word: str, size: int) -> Float64[np.ndarray, " basis"]:
    """A fixed standard normal vector for the word, cut to ``size``."""
    return np.random.default_rng(_digest(word)).standard_normal(size)


def _digest(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()[:8], "big")


def _words_of(conversation: Conversation) -> int:
    return sum(len(message.content.split()) for message in conversation)
