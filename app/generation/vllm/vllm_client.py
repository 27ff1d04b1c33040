"""vLLM's engine as attune uses it: starts its processes, sends requests as token ids, reads rows, and closes it.

Together with ``vllm_processor`` the only file that imports vLLM. Knows no texts, no users and no queue.
"""

import asyncio
import os
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from itertools import count
from typing import Any

import numpy as np
from jaxtyping import Float64

from app.entities import SamplingOptions
from app.errors import ConfigurationError, InvalidInput, Unavailable
from app.generation.vllm.vllm_steps import PAYLOAD
from app.rewards.export import ExportedCheckpoint

EXTENSION = "app.generation.vllm.vllm_processor.AttuneWorker"
PROCESSOR = "app.generation.vllm.vllm_processor:AttuneProcessor"
OWN_OPTIONS = frozenset(
    {
        "model",
        "tokenizer",
        "max_model_len",
        "logits_processors",
        "worker_extension_cls",
        "skip_tokenizer_init",
        "runner",
    }
)
"""Arguments of vLLM's engine that attune sets itself."""

_ENVIRONMENT = {
    "VLLM_USE_V2_MODEL_RUNNER": "0",  # the logits processor is written for the first one
    "VLLM_LOGGING_LEVEL": "WARNING",
    "VLLM_NO_USAGE_STATS": "1",
    "DO_NOT_TRACK": "1",
    "HF_HUB_OFFLINE": "1",
}
_CPU_CACHE_BYTES = 2**30
_END_SECONDS = 5.0


@dataclass(frozen=True)
class Draw:
    """One text to be drawn: candidate ``number`` of ``seed``, going on after ``done`` of its own tokens.

    At most ``most`` tokens are wanted; one more is drawn, so that the last one's rows are computed, and not used.
    ``coefficients`` are multiplied by strength already. ``values`` keeps the rows of the value heads as well; without
    ``keeps`` no rows are kept at all.
    """

    number: int
    options: SamplingOptions
    done: int
    most: int
    continuation: int = 0
    coefficients: tuple[float, ...] | None = None
    values: bool = False
    keeps: bool = True


class VllmClient:
    """An ``AsyncLLM`` on an exported checkpoint. For one event loop."""

    def __init__(
        self,
        export: ExportedCheckpoint,
        *,
        most_rows: int,
        dtype: str = "auto",
        options: Mapping[str, Any] | None = None,
    ) -> None:
        """Prepare; ``start`` loads.

        Args:
            export: The checkpoint.
            most_rows: Requests that are decoded together.
            dtype: Precision, as vLLM names it.
            options: Further arguments of ``AsyncEngineArgs``, except ``OWN_OPTIONS``.

        Raises:
            ConfigurationError: If an option is one that attune sets.
        """
        self.export, self._most_rows, self._dtype = export, most_rows, dtype
        self._options = dict(options or {})
        for name in sorted(OWN_OPTIONS & self._options.keys()):
            raise ConfigurationError(f"ATTUNE_ENGINE__VLLM: '{name}' is set by attune; leave it out.")
        self._llm: Any = None
        self._numbers = count()
        self._forgetting: set[asyncio.Task[Any]] = set()

    async def start(self) -> None:
        """Start vLLM's processes and load the checkpoint, in a thread of its own.

        Raises:
            ConfigurationError: If vLLM refuses an option.
        """
        for name, value in _ENVIRONMENT.items():
            os.environ.setdefault(name, value)
        if os.environ["VLLM_USE_V2_MODEL_RUNNER"] != "0":
            raise ConfigurationError("attune works with vLLM's first model runner; unset VLLM_USE_V2_MODEL_RUNNER.")
        self._llm = await asyncio.to_thread(self._load)
        await self._call("attune_score_prompts")

    async def close(self) -> None:
        """End vLLM's processes; what is under way fails."""
        for task in tuple(self._forgetting):
            task.cancel()
        llm, self._llm = self._llm, None
        if llm is not None:
            if llm.output_handler is not None:  # else it reports the end of the processes as an error
                llm.output_handler.cancel()
            await asyncio.to_thread(llm.shutdown, _END_SECONDS)
            llm.shutdown = _nothing  # its finaliser calls it once more, when the interpreter may be half gone

    @property
    def running(self) -> bool:
        """Whether vLLM's processes are there and well."""
        return self._llm is not None and not self._llm.errored

    def new_key(self) -> str:
        """A name that no other request of this client has."""
        return f"attune-{next(self._numbers)}"

    async def draw(self, key: str, prompt_ids: Sequence[int], draw: Draw) -> list[int]:
        """All token ids of a text at once, the end mark or the unused one included."""
        ids: list[int] = []
        async with aclosing(self.steps(key, prompt_ids, draw, all_at_once=True)) as steps:
            async for new, _ in steps:
                ids += new
        return ids

    async def steps(
        self, key: str, prompt_ids: Sequence[int], draw: Draw, *, all_at_once: bool = False
    ) -> AsyncGenerator[tuple[list[int], int], None]:
        """The token ids of a text as they are drawn, with how many of the prompt's tokens were known.

        Leaving the iterator ends the request; its rows stay until they are read or forgotten.
        """
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind

        params = SamplingParams(
            temperature=0.0,
            max_tokens=draw.most + 1,
            stop_token_ids=list(self.export.end_ids),
            ignore_eos=True,
            detokenize=False,
            output_kind=RequestOutputKind.FINAL_ONLY if all_at_once else RequestOutputKind.DELTA,
            extra_args={PAYLOAD: self._payload(key, draw)},
        )
        async with aclosing(self._generate(key, prompt_ids, params)) as outputs:
            async for output in outputs:
                yield list(output.outputs[0].token_ids), int(output.num_cached_tokens or 0)

    async def draw_stock(self, prompt_ids: Sequence[int], options: SamplingOptions) -> int:
        """Have vLLM's own sampler draw ``max_tokens`` tokens, whatever they are; returns how many. For comparisons."""
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind

        params = SamplingParams(
            temperature=options.temperature,
            top_p=options.top_p,
            seed=options.seed,
            max_tokens=options.max_tokens,
            ignore_eos=True,
            detokenize=False,
            output_kind=RequestOutputKind.FINAL_ONLY,
        )
        async with aclosing(self._generate(self.new_key(), prompt_ids, params)) as outputs:
            return sum([len(output.outputs[0].token_ids) async for output in outputs])

    async def score(self, key: str, prompt_ids: Sequence[int], response_ids: Sequence[int]) -> None:
        """Compute the rows of a given response, to be read under ``key``, in one prefill of prompt and response."""
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind

        payload = {"key": key, "draws": False, "reads_from": len(prompt_ids) - 1}
        params = SamplingParams(
            temperature=0.0,
            max_tokens=1,
            prompt_logprobs=0,
            detokenize=False,
            output_kind=RequestOutputKind.FINAL_ONLY,
            extra_args={PAYLOAD: payload},
        )
        async with aclosing(self._generate(key, [*prompt_ids, *response_ids], params)) as outputs:
            async for _ in outputs:
                pass

    async def read(
        self, keys: Sequence[str], counts: Sequence[int], *, drop: bool = True
    ) -> Float64[np.ndarray, "keys two columns"]:
        """For each request the sum of the rows of its first ``count`` tokens, and the last of these rows."""
        answers = await self._call("attune_read" if drop else "attune_peek", list(keys), list(counts))
        width, content = next(answer for answer in answers if answer is not None)
        return np.frombuffer(content, np.float64).reshape(len(keys), 2, width)

    async def counts(self) -> tuple[int, int]:
        """How many requests are in vLLM's batch, and how many ended ones wait for their reader."""
        live, ended = next(answer for answer in await self._call("attune_counts") if answer is not None)
        return int(live), int(ended)

    def forget(self, keys: Sequence[str]) -> None:
        """Have dropped what was kept for requests that nobody will read; does not wait for it."""
        if self.running:
            task = asyncio.get_running_loop().create_task(self._forget(list(keys)))
            self._forgetting.add(task)
            task.add_done_callback(self._forgetting.discard)

    async def forget_prompts(self) -> None:
        """Drop vLLM's prefix cache."""
        await self._llm.reset_prefix_cache()

    async def _forget(self, keys: list[str]) -> None:
        try:
            await self._call("attune_forget", keys)
        except Unavailable:
            return  # the processes that kept it are gone

    async def _generate(self, key: str, ids: Sequence[int], params: Any) -> AsyncGenerator[Any, None]:
        """vLLM's own generator, with its errors translated."""
        from vllm.exceptions import VLLMValidationError
        from vllm.inputs.engine import tokens_input
        from vllm.v1.engine.exceptions import EngineDeadError, EngineGenerateError

        try:
            async with aclosing(self._llm.generate(tokens_input(list(ids)), params, key)) as outputs:
                async for output in outputs:
                    yield output
        except VLLMValidationError as error:
            raise InvalidInput(f"vLLM refuses the request: {error}") from error
        except (EngineDeadError, EngineGenerateError) as error:
            raise Unavailable("vLLM's engine process has ended; restart this process.") from error

    async def _call(self, method: str, *arguments: Any) -> list[Any]:
        from vllm.v1.engine.exceptions import EngineDeadError

        try:
            answers: list[Any] = await self._llm.collective_rpc(method, args=arguments)
        except EngineDeadError as error:
            raise Unavailable("vLLM's engine process has ended; restart this process.") from error
        return answers

    def _payload(self, key: str, draw: Draw) -> dict[str, Any]:
        options = draw.options
        return {
            "key": key,
            "seed": options.seed % 2**64,  # what the protocol between the processes can carry
            "number": draw.number,
            "continuation": draw.continuation,
            "done": draw.done,
            "most": draw.most + 1,
            "temperature": options.temperature,
            "top_p": options.top_p,
            "keeps": draw.keeps,
            "values": draw.values,
            "coefficients": None if draw.coefficients is None else list(draw.coefficients),
            "basis": self.export.rows.rewards,
        }

    def _load(self) -> Any:
        from vllm.engine.arg_utils import AsyncEngineArgs
        from vllm.platforms import current_platform
        from vllm.v1.engine.async_llm import AsyncLLM

        usual: dict[str, Any] = {"max_num_seqs": self._most_rows, "enable_prefix_caching": True}
        if current_platform.is_cpu():
            usual |= {"block_size": 32}
            if not os.environ.get("VLLM_CPU_KVCACHE_SPACE"):
                usual |= {"kv_cache_memory_bytes": _CPU_CACHE_BYTES}
        try:
            arguments = AsyncEngineArgs(
                **{**usual, "dtype": self._dtype, **self._options},
                model=str(self.export.directory),
                skip_tokenizer_init=True,
                max_model_len=self.export.context + 1,
                logits_processors=[PROCESSOR],
                worker_extension_cls=EXTENSION,
                runner="generate",
                generation_config="vllm",
                disable_log_stats=True,
            )
            return AsyncLLM.from_engine_args(arguments)
        except (TypeError, ValueError) as error:
            raise ConfigurationError(
                f"vLLM does not start with these options ({error}); see ATTUNE_ENGINE__VLLM."
            ) from error


def _nothing(timeout: float | None = None) -> None:
    """End what has ended."""
