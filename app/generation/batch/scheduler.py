"""Continuous decoding: one forward pass a step for the texts of all requests under way.

Between two steps requests join as far as there is room and texts that are finished leave. Knows the network, not
threads, queues or users.
"""

import time
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import torch
from jaxtyping import Float64, Int
from torch import Tensor

from app.entities import FinishReason
from app.generation.batch.drawing import Drawing, Path
from app.generation.batch.guided import Guide, RowTilts
from app.generation.batch.heads import Heads
from app.generation.batch.prefixes import Prefixes
from app.generation.batch.rows import Prompt, RunningRows, placement
from app.generation.batch.sampling import LEAST_TEMPERATURE, draw_tokens, tempered
from app.generation.observer import EngineObserver, Unobserved
from app.generation.speed import StepTimes
from app.rewards.language import LanguageModel

Attempt = Callable[[Drawing, Callable[[], None]], bool]
"""Does one request's own part of a step; returns False where that failed, and the request leaves the batch."""

OnStates = Callable[[Sequence[int], Tensor], None]
"""Told after every step of the candidates' numbers and the states (rows, hidden) of the tokens they were given."""


def plainly(_: Drawing, work: Callable[[], None]) -> bool:
    """The ``Attempt`` that lets errors through."""
    work()
    return True


class Scheduler:
    """The running batch of one model. Used by one thread."""

    def __init__(
        self,
        model: LanguageModel,
        heads: Heads,
        *,
        guide: Guide | None = None,
        max_rows: int = 64,
        prefix_tokens: int = 0,
        observer: EngineObserver | None = None,
        on_states: OnStates | None = None,
    ) -> None:
        """Prepare an empty batch.

        Args:
            model: The language model.
            heads: Basis reward heads to read from the same pass; possibly none.
            guide: Value heads, for requests that are steered.
            max_rows: Texts decoded together; a request with more candidates takes them in turn, and a candidate with
                more continuations than that is decoded alone.
            prefix_tokens: Tokens of prompts to keep for those that begin alike.
            observer: Told of steps, of tokens discarded and of tokens known.
            on_states: Told of all states.
        """
        self.model, self.heads, self.guide, self.max_rows = model, heads, guide, max_rows
        self.prefixes = Prefixes(model, prefix_tokens)
        self.times, self.seconds = StepTimes(), 0.0
        self.drawings: list[Drawing] = []
        self.observer: EngineObserver = observer or Unobserved()
        self._on_states = on_states
        banned, self._ends = model.tokenizer.banned_ids, frozenset(model.tokenizer.end_ids)
        self._banned = torch.tensor(banned, dtype=torch.long, device=model.device)
        self._end_ids = torch.tensor(model.tokenizer.end_ids, dtype=torch.long, device=model.device)
        self.reset()

    @property
    def rows(self) -> int:
        """Texts under way."""
        return len(self._paths)

    def reset(self) -> None:
        """Drop everything under way, with the buffers."""
        self.drawings = []
        self._rows = RunningRows(self.model.network, self.heads.weight, most=self.max_rows)
        self._prompts: dict[Drawing, Prompt] = {}
        self._paths: list[Path] = []
        self._row_of: dict[Path, int] = {}
        self._tilts: RowTilts | None = None

    def accepts(self, rows: int) -> bool:
        """Whether a request of so many rows may start now; one with too many waits until nothing else is under way."""
        taken = self.rows + sum(len(drawing.pending) * drawing.width for drawing in self.drawings)
        return not taken or taken + rows <= self.max_rows

    @torch.inference_mode()
    def start(self, drawing: Drawing) -> None:
        """Read the prompt; the candidates join with the next step, as many as there is room for.

        An exception leaves the batch as it was.
        """
        began = time.perf_counter()
        prompt, drawing.reused = self.prefixes.read(drawing.prompt_ids)
        drawing.prompt_rewards = self._rows.read(prompt.state)[0].double().cpu().numpy()
        drawing.offset = self.heads.offset
        if drawing.reused:
            self.observer.on_reuse(drawing.reused)
        self._prompts[drawing] = prompt
        self.drawings.append(drawing)
        self.seconds += time.perf_counter() - began

    @torch.inference_mode()
    def drop(self, drawing: Drawing) -> None:
        """Forget a request, whether it is under way or not."""
        if drawing in self.drawings:
            self.drawings.remove(drawing)
            del self._prompts[drawing]
            self._rearrange({})

    @torch.inference_mode()
    def step(self, attempt: Attempt = plainly) -> list[Drawing]:
        """Give every text its next token; returns the requests that are finished, which have left.

        An exception that is not one request's own leaves the batch in no usable state: ``reset`` it.
        """
        arrived = time.perf_counter()
        self._fill()
        began, rows = time.perf_counter(), self.rows
        tokens = self._choose()
        tokens, appended = self._append(tokens, tokens.tolist())
        if self._paths:
            self._rows.feed(tokens)
            if self._on_states is not None:
                self._on_states([path.number for path in self._paths], self._rows.states[: self.rows])
        finished = self._advance(attempt)
        taken = time.perf_counter() - began
        self.seconds += taken + began - arrived
        self.times.note(rows, taken)
        self.observer.on_step(rows, appended, taken)
        return finished

    def _choose(self) -> Int[Tensor, " padded"]:
        """The next token of every row, padding included."""
        rows = self._rows
        logits = self.model.network.logits(rows.states)
        logits.index_fill_(1, self._banned, -torch.inf)
        fresh = [row for row, length in enumerate(rows.lengths) if not length]
        if fresh:
            logits[torch.tensor(fresh, device=logits.device)[:, None], self._end_ids] = -torch.inf
        logits = tempered(logits, self._temperature)
        if self._tilts is not None:
            logits = self._tilts.apply(logits, rows.states)
        if self._greedy == "all":
            return logits.argmax(dim=-1)
        tokens = draw_tokens(logits, rows.drawn_by(), self._top_p)
        return tokens if self._greedy == "none" else torch.where(self._temperature == 0, logits.argmax(-1), tokens)

    def _append(self, tokens: Tensor, drawn: list[int]) -> tuple[Tensor, int]:
        """Append the tokens to their texts; those that drew an end mark leave without it."""
        ending = [path for path, token in zip(self._paths, drawn, strict=False) if token in self._ends]
        for path, token in zip(self._paths, drawn, strict=False):
            if token not in self._ends:
                path.owner.append(path, token)
        appended = len(self._paths) - len(ending)
        for path in ending:
            self._leave(path, "stop")
        order = self._rearrange({}) if ending else None
        if order is None:
            return tokens, appended
        spare = [0] * (self._rows.padded - len(order))
        return tokens[torch.tensor([*order, *spare], dtype=torch.long, device=tokens.device)], appended

    def _advance(self, attempt: Attempt) -> list[Drawing]:
        """Every request's own part of the step, and then what it changes in the batch."""
        copies: dict[Path, Path] = {}
        for drawing in list(self.drawings):
            before = drawing.discarded
            if not attempt(drawing, partial(self._advance_one, drawing, copies)):
                self.drawings.remove(drawing)
                del self._prompts[drawing]
            elif drawing.discarded > before:
                self.observer.on_discard(drawing.discarded - before)
        finished = [drawing for drawing in self.drawings if drawing.finished]
        for drawing in finished:
            self.drawings.remove(drawing)
            del self._prompts[drawing]
        self._rearrange(copies)
        return finished

    def _advance_one(self, drawing: Drawing, copies: dict[Path, Path]) -> None:
        for path in list(drawing.live):
            finish = drawing.finish_of(path)
            if finish is not None:
                self._leave(path, finish)
        if drawing.compares:
            copies |= drawing.steer(self._predict)
        drawing.tell()

    def _leave(self, path: Path, finish: FinishReason) -> None:
        row = self._row_of[path]
        path.rewards = self._rows.rewards[row, : len(path.ids)].double().cpu().numpy()
        if path.owner.compares and not len(self.heads.weight):
            path.promised = self._predict([path])[0]
        path.owner.leave(path, finish)

    def _predict(self, paths: Sequence[Path]) -> Float64[np.ndarray, "paths basis"]:
        if self.guide is None:
            raise RuntimeError("Only value heads tell what a text promises, and there are none.")
        rows = [self._row_of[path] for path in paths]
        states = self._rows.states[torch.tensor(rows, device=self.model.device)]
        return self.guide.predict(states, self._rows.means(rows), [len(path.ids) for path in paths])

    def _fill(self) -> None:
        """Let pending candidates join while there is room."""
        for drawing in self.drawings:
            room = self.max_rows - self.rows
            if drawing.pending and (room >= drawing.width or not self._paths):
                new = drawing.begin(room)
                self._row_of |= {path: row for row, path in enumerate(new, self.rows)}
                self._rows.join(self._prompts[drawing], [path.uniforms for path in new])
                self._paths += new
                self._rearrange({}, joined=True)

    def _rearrange(self, copies: dict[Path, Path], *, joined: bool = False) -> list[int] | None:
        """Let the rows hold what is live, copies included; returns the order of the old rows, None if they stay."""
        live = {path for drawing in self.drawings for path in drawing.live}
        if not joined and not copies and len(live) == len(self._paths):
            return None
        continued: dict[int, list[Path]] = {}
        for path in (*self._paths, *copies):
            if path in live:
                continued.setdefault(self._row_of[copies.get(path, path)], []).append(path)
        order = placement(self._rows.prompts, [row for row, paths in continued.items() for _ in paths])
        self._rows.arrange(order)
        self._paths = [continued[source].pop(0) for source in order]
        self._row_of = {path: row for row, path in enumerate(self._paths)}
        for path in {*copies, *copies.values()} & live:
            self._rows.uniforms[self._row_of[path], : len(path.uniforms)] = path.uniforms
        self._settle()
        return order

    def _settle(self) -> None:
        """Each row's sampling settings; padding is drawn greedily from nothing that matters."""
        options = [path.owner.options for path in self._paths]
        spare = [1.0] * (self._rows.padded - len(options))
        device = self.model.device
        temperatures = [one.temperature and max(one.temperature, LEAST_TEMPERATURE) for one in options]
        self._temperature = torch.tensor([*temperatures, *spare], device=device)
        self._top_p = torch.tensor([*(one.top_p for one in options), *spare], dtype=torch.float64, device=device)
        greedy = [one.temperature == 0 for one in options]
        self._greedy = "all" if all(greedy) else "some" if any(greedy) else "none"
        tilts = [path.owner.tilt for path in self._paths]
        guided = self.guide is not None and any(tilt is not None for tilt in tilts)
        self._tilts = RowTilts(self.guide, tilts, self._rows.padded) if self.guide and guided else None
