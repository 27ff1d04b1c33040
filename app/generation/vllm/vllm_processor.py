"""attune's parts inside vLLM's worker process: the logits processor, and what the engine may ask the worker.

The one file that touches interfaces of vLLM which may change between its minor releases: written for 0.32 and its first
model runner, which the engine switches on. Imports neither the API, storage nor configuration.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from vllm.v1.sample.logits_processor import BatchUpdate, LogitsProcessor, MoveDirectionality

from app.generation.vllm.vllm_steps import PAYLOAD, Steps, load_layout
from app.rewards.export import read_description


class AttuneProcessor(LogitsProcessor):  # type: ignore[misc]
    """Feeds ``Steps`` with vLLM's batches. Its parameters are a mapping under ``extra_args["attune"]``."""

    @classmethod
    def validate_params(cls, sampling_params: Any) -> None:
        """Refuse malformed arguments while the request can still be answered; raises ``ValueError``."""
        payload = (sampling_params.extra_args or {}).get(PAYLOAD)
        if payload is None:
            return
        if not isinstance(payload, dict) or not isinstance(payload.get("key"), str):
            raise ValueError("'attune' must be a mapping with a 'key'; leave it out or call attune's own engine.")
        coefficients = payload.get("coefficients")
        if coefficients is None:
            return
        numbers = isinstance(coefficients, list) and all(isinstance(one, int | float) for one in coefficients)
        if not numbers or len(coefficients) != payload.get("basis") or not np.isfinite(coefficients).all():
            raise ValueError("'attune.coefficients' must be a list of as many finite numbers as there are rewards.")

    def __init__(self, vllm_config: Any, device: torch.device, is_pin_memory: bool) -> None:  # noqa: ARG002
        described = read_description(Path(vllm_config.model_config.model))
        self.steps = Steps(load_layout(described, device))

    def is_argmax_invariant(self) -> bool:
        """No: it decides which token is the most probable one."""
        return False

    def update_state(self, batch_update: BatchUpdate | None) -> None:
        """Follow the changes of vLLM's batch, in the order that its interface prescribes."""
        if batch_update is None:
            return
        for index in batch_update.removed:
            self.steps.remove(index)
        for index, params, _, output in batch_update.added:
            self.steps.add(index, params.extra_args, output)
        for source, target, direction in batch_update.moved:
            self.steps.move(source, target, swap=direction == MoveDirectionality.SWAP)

    def apply(self, logits: Tensor) -> Tensor:
        """As ``Steps.apply``."""
        return self.steps.apply(logits)


class AttuneWorker:
    """What ``collective_rpc`` may call in each of vLLM's worker processes; added to its worker class.

    Arrays travel as bytes of float64 numbers, since vLLM's protocol carries plain types only.
    """

    model_runner: Any

    def attune_read(self, keys: Sequence[str], counts: Sequence[int]) -> tuple[int, bytes] | None:
        """As ``Steps.read``, after which what was kept for requests that ended is dropped; None in a worker without."""
        steps = self._attune_steps()
        if steps is None:
            return None
        found = steps.read(keys, counts)
        steps.forget(keys)
        return found.shape[-1], found.tobytes()

    def attune_peek(self, keys: Sequence[str], counts: Sequence[int]) -> tuple[int, bytes] | None:
        """As ``Steps.read``; nothing is dropped."""
        steps = self._attune_steps()
        found = None if steps is None else steps.read(keys, counts)
        return None if found is None else (found.shape[-1], found.tobytes())

    def attune_forget(self, keys: Sequence[str]) -> None:
        """As ``Steps.forget``."""
        steps = self._attune_steps()
        if steps is not None:
            steps.forget(keys)

    def attune_counts(self) -> tuple[int, int] | None:
        """How many requests are in the batch, and how many ended ones wait for their reader."""
        steps = self._attune_steps()
        return None if steps is None else (len(steps.live), len(steps.ended))

    def attune_score_prompts(self) -> None:
        """From now on, the rows of prompts that ask for them are summed up; called once, after the start."""
        runner, steps = self.model_runner, self._attune_steps()
        if steps is not None:
            runner._get_prompt_logprobs_dict = PromptReader(runner, steps, runner._get_prompt_logprobs_dict)

    def _attune_steps(self) -> Steps | None:
        processors = self.model_runner.input_batch.logitsprocs.non_argmax_invariant
        return next((one.steps for one in processors if isinstance(one, AttuneProcessor)), None)


class PromptReader:
    """Takes the place of the runner's method that scores prompts: reads the rows of attune's own requests instead.

    A request whose payload has ``reads_from`` gets the rows of its prompt's tokens from that position on, as one
    block under its key. Requests of others go to vLLM's own method.
    """

    def __init__(self, runner: Any, steps: Steps, original: Any) -> None:
        self.runner, self.steps, self.original = runner, steps, original

    def __call__(self, hidden_states: Tensor, num_scheduled_tokens: dict[str, int]) -> dict[str, Any]:
        """What vLLM's own method returns for the requests of others."""
        asked = self.runner.num_prompt_logprobs
        own = {name: count for name, count in asked.items() if self._payload(name) is not None}
        for name in own:
            del asked[name]
        scores: dict[str, Any] = self.original(hidden_states, num_scheduled_tokens)
        for name, count in own.items():
            scheduled = num_scheduled_tokens.get(name)
            if scheduled is None or not self._read(name, hidden_states, scheduled):
                asked[name] = count
        return scores

    def _payload(self, name: str) -> dict[str, Any] | None:
        payload = (self.runner.requests[name].sampling_params.extra_args or {}).get(PAYLOAD)
        return payload if payload is not None and "reads_from" in payload else None

    def _read(self, name: str, hidden_states: Tensor, scheduled: int) -> bool:
        """Read the rows of the tokens computed in this step; returns whether the prompt is at its end."""
        payload, request = self._payload(name), self.runner.requests[name]
        if payload is None:
            return True
        begin, offset = request.num_computed_tokens, self._offset(name)
        skipped = max(payload["reads_from"] - begin, 0)
        if skipped < scheduled:
            logits = self.runner.model.compute_logits(hidden_states[offset + skipped : offset + scheduled])
            self.steps.keep_prompt(payload["key"], logits)
        return bool(begin + scheduled >= len(request.prompt_token_ids))

    def _offset(self, name: str) -> int:
        return int(self.runner.query_start_loc.np[self.runner.input_batch.req_id_to_index[name]])
