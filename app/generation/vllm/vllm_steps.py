"""What one step of vLLM's batch does for attune's requests: keep the rows that hold the basis, and choose the tokens.

The checkpoint's last vocabulary entries are linear functions of the hidden state (``rewards.export``), so the logits of
a step hold the basis rewards of every text so far. Tokens are chosen by the same function, from the same stream of
uniforms, as in the torch engine. Runs in vLLM's worker process; needs torch only, so that it is tested without vLLM.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Float64
from safetensors.numpy import load_file
from torch import Tensor

from app.generation.batch.sampling import draw_tokens, tempered, tilted, uniform_stream
from app.rewards.export import VALUE_ARRAYS, ExportedCheckpoint, VirtualRows

PAYLOAD = "attune"
"""Key of a request's extra arguments, under which attune's own lie."""

_MOST_ENDED = 4096


@dataclass(frozen=True)
class ActionHeads:
    """What turns the action rows of a step into what each next token adds, by ``rewards.values``."""

    tokens: Float[Tensor, "vocabulary rank"]
    offset: Float[Tensor, "basis rank"]
    scale: float


@dataclass(frozen=True)
class StepLayout:
    """Where the rows lie, which tokens may not be drawn, and the action heads if there are any."""

    rows: VirtualRows
    banned: Tensor
    ends: Tensor
    actions: ActionHeads | None


@dataclass
class Request:
    """One of attune's requests in vLLM's batch. ``output`` is vLLM's own list of its tokens, which grows.

    ``uniforms`` (tokens, 2) are the numbers that decide; at temperature 0 nothing looks at them. ``places`` has for
    each token so far where the row before it was kept: a block of rows and the place in it. ``coefficients`` (K,) are
    multiplied by strength and scale; None without guidance.
    """

    key: str
    output: Sequence[int]
    uniforms: Float64[np.ndarray, "tokens 2"]
    temperature: float
    top_p: float
    may_end_at_once: bool
    keeps: int
    coefficients: Tensor | None = None
    places: list[tuple[Tensor, int]] = field(default_factory=list)
    forgotten: bool = False

    def keep(self, block: Tensor, row: int) -> None:
        """Note the row before the next token; the last one noted counts, since a long prompt is read in parts."""
        place = len(self.output)
        del self.places[place:]
        self.places.append((block, row))


@dataclass(frozen=True)
class _Batch:
    """The live requests in the order of their indices, and what of them does not change while they are together."""

    order: Sequence[int]
    requests: Sequence[Request]
    keeps: int
    index: Tensor
    temperatures: Tensor
    top_p: Tensor
    guided: Tensor
    mix: Tensor
    any_greedy: bool
    all_greedy: bool

    @classmethod
    def of(cls, order: Sequence[int], requests: Sequence[Request], like: Tensor) -> "_Batch":
        """Put the requests together on the device of ``like``."""
        heats = [request.temperature for request in requests]
        guided = [row for row, request in enumerate(requests) if request.coefficients is not None]
        mixes = [request.coefficients for request in requests if request.coefficients is not None]
        return cls(
            order=order,
            requests=requests,
            keeps=max(request.keeps for request in requests),
            index=torch.tensor(order, device=like.device),
            temperatures=torch.tensor(heats, dtype=torch.float32, device=like.device),
            top_p=torch.tensor([request.top_p for request in requests], dtype=torch.float32, device=like.device),
            guided=torch.tensor(guided, dtype=torch.long, device=like.device),
            mix=torch.stack(mixes) if mixes else like.new_empty(0),
            any_greedy=0 in heats,
            all_greedy=not any(heats),
        )

    def uniforms(self, device: torch.device) -> Tensor:
        """The two numbers (requests, 2) that decide each request's next token."""
        now = [request.uniforms[len(request.output)] for request in self.requests]
        return torch.from_numpy(np.stack(now)).to(device, non_blocking=True)


class Steps:
    """attune's requests in vLLM's batch by their index there, and those that ended until somebody reads them."""

    def __init__(self, layout: StepLayout) -> None:
        self.layout = layout
        self.live: dict[int, Request] = {}
        self.ended: dict[str, Request] = {}
        self._batch: _Batch | None = None

    def add(self, index: int, extra: Mapping[str, Any] | None, output: Sequence[int]) -> None:
        """A request has taken place ``index`` of the batch, for the first time or again after it was preempted."""
        self.remove(index)
        payload = (extra or {}).get(PAYLOAD)
        if payload is None or not payload.get("draws", True):
            return
        request = self.ended.pop(payload["key"], None) or self._new(payload, output)
        request.output = output
        self.live[index] = request

    def remove(self, index: int) -> None:
        """The request at ``index`` has left the batch; what was kept for it waits for its reader."""
        request = self.live.pop(index, None)
        self._batch = None
        if request is not None:
            self._end(request)

    def move(self, source: int, target: int, *, swap: bool) -> None:
        """The request at ``source`` is now at ``target``, and with ``swap`` the other way round as well."""
        moved, other = self.live.pop(source, None), self.live.pop(target, None)
        self._batch = None
        if moved is not None:
            self.live[target] = moved
        if other is not None and swap:
            self.live[source] = other
        elif other is not None:
            self._end(other)

    @torch.inference_mode()
    def apply(self, logits: Float[Tensor, "batch vocabulary"]) -> Tensor:
        """Keep the rows of this step and leave each of attune's requests the one token that it draws.

        Args:
            logits: Of the whole batch, float32; changed in place. Virtual ids are impossible for anybody afterwards.
        """
        first = self.layout.rows.first
        if self.live:
            batch = self._gathered(logits)
            if batch.keeps:
                block = logits[:, first : first + batch.keeps].clone()
                for index, request in zip(batch.order, batch.requests, strict=True):
                    request.keep(block, index)
            chosen = self._choose(logits, batch)
            logits[batch.index] = -torch.inf
            logits[batch.index, chosen] = 0.0
        logits[:, first:] = -torch.inf
        return logits

    def keep_prompt(self, key: str, logits: Float[Tensor, "tokens vocabulary"]) -> None:
        """Keep the rows of a prompt's next tokens under ``key``, as if they had been drawn."""
        block = logits[:, self.layout.rows.first : self.layout.rows.zero].float()
        request = self.ended.get(key)
        if request is None:
            request = Request(key, [], np.empty((0, 2)), 0.0, 1.0, True, self.layout.rows.rewards)
            self._end(request)
        request.places += [(block, row) for row in range(len(block))]

    def read(self, keys: Sequence[str], counts: Sequence[int]) -> Float[np.ndarray, "keys two columns"]:
        """For each request the sum of its rows after the first ``count`` of its tokens, and the last of them.

        With a count of 0 both are the row of the prompt's last token.
        """
        found = [self._find(key) for key in keys]
        blocks: dict[int, tuple[int, Tensor]] = {}
        picks, lengths, place = [], [], 0
        for request, count in zip(found, counts, strict=True):
            kept = request.places[1 : count + 1] if count else request.places[:1]
            for block, row in kept:
                if id(block) not in blocks:
                    blocks[id(block)] = place, block
                    place += len(block)
                picks.append(blocks[id(block)][0] + row)
            lengths.append(len(kept))
        width = min(block.shape[1] for _, block in blocks.values())
        every = torch.cat([block[:, :width] for _, block in blocks.values()])
        chosen = every[torch.tensor(picks, device=every.device)].double().cpu()
        parts = torch.split(chosen, lengths)
        return torch.stack([torch.stack([part.sum(dim=0), part[-1]]) for part in parts]).numpy()

    def forget(self, keys: Sequence[str]) -> None:
        """Drop what was kept for requests that nobody will read, as soon as they have left the batch."""
        for key in keys:
            self.ended.pop(key, None)
        for request in self.live.values():
            if request.key in keys:
                request.forgotten = True

    def _end(self, request: Request) -> None:
        if request.forgotten or not request.keeps:
            return
        self.ended[request.key] = request
        while len(self.ended) > _MOST_ENDED:
            del self.ended[next(iter(self.ended))]

    def _new(self, payload: Mapping[str, Any], output: Sequence[int]) -> Request:
        rows = self.layout.rows
        return Request(
            key=payload["key"],
            output=output,
            uniforms=_remaining_uniforms(payload),
            temperature=float(payload["temperature"]),
            top_p=float(payload["top_p"]),
            may_end_at_once=int(payload["done"]) > 0,
            keeps=_columns(payload, rows),
            coefficients=self._fold(payload.get("coefficients")),
        )

    def _fold(self, coefficients: Sequence[float] | None) -> Tensor | None:
        actions = self.layout.actions
        if coefficients is None:
            return None
        if actions is None or len(coefficients) != self.layout.rows.rewards:
            raise ValueError(f"{len(coefficients)} coefficients, but the checkpoint guides by {self.layout.rows}")
        return torch.tensor(coefficients, dtype=torch.float32, device=actions.offset.device) * actions.scale

    def _gathered(self, like: Tensor) -> "_Batch":
        """The live requests in order; built again only after the batch has changed."""
        if self._batch is None:
            order = sorted(self.live)
            self._batch = _Batch.of(order, [self.live[index] for index in order], like)
        return self._batch

    def _choose(self, logits: Tensor, batch: "_Batch") -> Tensor:
        """The next token of every request of the batch, as ``sampling`` draws it."""
        real = logits[batch.index, : self.layout.rows.first]
        real.index_fill_(1, self.layout.banned, -torch.inf)
        for row, request in enumerate(batch.requests):
            if not request.output and not request.may_end_at_once:
                real[row, self.layout.ends] = -torch.inf
        mixed = tempered(real, batch.temperatures)
        if len(batch.guided):
            mixed[batch.guided] = tilted(mixed[batch.guided], self._tilt(logits, batch))
        if batch.all_greedy:
            return mixed.argmax(dim=-1)
        drawn = draw_tokens(mixed, batch.uniforms(logits.device), batch.top_p)
        return torch.where(batch.temperatures == 0, mixed.argmax(dim=-1), drawn) if batch.any_greedy else drawn

    def _tilt(self, logits: Tensor, batch: "_Batch") -> Tensor:
        """What guidance adds to the log-probabilities (guided requests, vocabulary), by ``rewards.values``."""
        actions, rows = self.layout.actions, self.layout.rows
        if actions is None:
            raise ValueError("the checkpoint has no action heads to guide with")
        states = logits[batch.index[batch.guided], rows.actions : rows.end].view(-1, rows.rewards, rows.rank)
        return torch.einsum("gk,gkr->gr", batch.mix, states + actions.offset) @ actions.tokens.T

    def _find(self, key: str) -> Request:
        if key in self.ended:
            return self.ended[key]
        for request in self.live.values():
            if request.key == key:
                return request
        raise KeyError(f"no request '{key}' in the batch")


def load_layout(found: ExportedCheckpoint, device: torch.device) -> StepLayout:
    """The layout of an exported checkpoint, on the device that computes its logits."""
    actions = None
    if found.rows.rank:
        arrays = load_file(found.directory / VALUE_ARRAYS)
        tokens = torch.tensor(arrays["action_tokens"], device=device)
        actions = ActionHeads(tokens, torch.tensor(arrays["action_offset"], device=device), float(arrays["scale"][0]))
    banned, ends = (torch.tensor(ids, dtype=torch.long, device=device) for ids in (found.banned_ids, found.end_ids))
    return StepLayout(found.rows, banned, ends, actions)


def _columns(payload: Mapping[str, Any], rows: VirtualRows) -> int:
    """How many of the virtual columns a request wants kept."""
    if not payload.get("keeps", True):
        return 0
    return rows.actions - rows.first if payload.get("values") else rows.rewards


def _remaining_uniforms(payload: Mapping[str, Any]) -> Float64[np.ndarray, "tokens 2"]:
    """The uniforms of the tokens that this request may draw, which may continue a text of ``done`` tokens."""
    done, total = int(payload["done"]), int(payload["done"]) + int(payload["most"])
    stream = uniform_stream(int(payload["seed"]), int(payload["number"]), int(payload["continuation"]), total)
    return stream.numpy()[done:]
