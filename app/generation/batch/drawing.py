"""One request under way: its candidates, the paths they are written along, and what becomes of them.

A path is one row of the running batch. A candidate has one path, or, guided block by block, several that begin alike,
of which the best goes on. Knows text and rewards, but neither the network nor other requests.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float64
from torch import Tensor

from app.entities import Candidate, FinishReason, SamplingOptions, Steering
from app.errors import NonFiniteReward
from app.generation.batch.best_of_n import CHECK_TOKENS, hopeless
from app.generation.batch.guided import Guide, Tilt
from app.generation.batch.sampling import uniform_stream
from app.generation.batch.written import TextStream, clean, stop_place, tokens_within
from app.rewards.language import ChatTokenizer

_NO_STEERING = Steering(())


@dataclass(eq=False)
class Path:
    """A text under way or finished, drawn by ``uniforms`` (tokens, 2).

    ``kept`` is a text that was cut at a stop string, with its tokens; ``rewards`` (tokens, K) are there once the path
    has left the batch, and ``promised`` (K,) where its rewards were predicted instead.
    """

    owner: "Drawing"
    number: int
    continuation: int
    uniforms: Tensor
    ids: list[int] = field(default_factory=list)
    finish: FinishReason | None = None
    kept: tuple[str, int] | None = None
    rewards: Float64[np.ndarray, "tokens basis"] = field(default_factory=lambda: np.zeros((0, 0)))
    promised: Float64[np.ndarray, " basis"] | None = None


Predict = Callable[[Sequence[Path]], Float64[np.ndarray, "paths basis"]]
"""Basis rewards that live paths promise for their finished texts."""


class Drawing:
    """``n`` candidates of one prompt. Everything here runs in the thread that owns the model.

    ``live`` are the paths in the batch, ``pending`` the candidates that wait for room, ``done`` the finished ones.
    ``generated`` counts all tokens so far, ``discarded`` those of dropped candidates and of blocks that did not go on.
    """

    def __init__(
        self,
        prompt_ids: list[int],
        n: int,
        options: SamplingOptions,
        tokenizer: ChatTokenizer,
        *,
        steering: Steering | None = None,
        guide: Guide | None = None,
        on_text: Callable[[str], None] | None = None,
    ) -> None:
        """Prepare a request; nothing is computed.

        Args:
            prompt_ids: The rendered conversation; with ``options.max_tokens`` it fits into the context.
            n: Number of candidates, at least 1.
            options: How to sample. At temperature 0 all candidates are the same one, and blocks have no rivals.
            tokenizer: Turns tokens into text.
            steering: How a person's reward acts; nothing acts without ``guide``.
            guide: The value heads.
            on_text: Told of pieces of the first candidate's text as they become certain.
        """
        self.prompt_ids, self.n, self.options = prompt_ids, n, options
        self.steering, self.guide = steering or _NO_STEERING, guide
        self.distinct = 1 if options.temperature == 0 else n
        self.width = 1
        self.tilt: Tilt | None = None
        self._act()
        self.pending = list(range(self.distinct))
        self.live: list[Path] = []
        self.done: dict[int, Path] = {}
        self.generated = self.discarded = self.reused = 0
        self.prompt_rewards, self.offset = np.zeros(0), np.zeros(0)
        self._coefficients = np.array(self.steering.coefficients, np.float64)
        self._tokenizer, self._steps = tokenizer, 0
        self._block_starts = dict.fromkeys(self.pending, 0)
        self._ended: list[Path] = []
        self._stream = None if on_text is None else TextStream(options.stop, on_text)

    def _act(self) -> None:
        """Set up what of the steering can act on this request."""
        steering = self.steering
        self.drops = self.guide is not None and steering.drop_below > 0 and self.distinct > 1
        if self.guide is None or steering.strength == 0:
            return
        if steering.guidance == "token":
            self.tilt = self.guide.fold(steering)
        elif steering.guidance == "block" and self.options.temperature > 0:
            self.width = steering.continuations

    @property
    def rows(self) -> int:
        """Rows that all candidates take together."""
        return self.distinct * self.width

    @property
    def compares(self) -> bool:
        """Whether paths are compared before all of them are finished."""
        return self.width > 1 or self.drops

    @property
    def finished(self) -> bool:
        """Whether every candidate is done."""
        return len(self.done) == self.distinct

    def begin(self, most: int) -> list[Path]:
        """The paths of as many pending candidates as ``most`` rows hold, of one at least."""
        count = max(1, most // self.width)
        starting, self.pending = self.pending[:count], self.pending[count:]
        new = [self._path(number, continuation) for number in starting for continuation in range(self.width)]
        self.live += new
        return new

    def append(self, path: Path, token: int) -> None:
        """``path`` goes on with ``token``."""
        path.ids.append(token)
        self.generated += 1

    def leave(self, path: Path, finish: FinishReason) -> None:
        """``path`` is finished, and its rewards are in it."""
        path.finish = finish
        self.live.remove(path)
        if self.width == 1:
            self.done[path.number] = path
        else:
            self._ended.append(path)

    def finish_of(self, path: Path) -> FinishReason | None:
        """How the path ends with its last token, if it does: at a stop string, which cuts it, or at the limit."""
        place = stop_place(self._tokenizer, path.ids, self.options.stop)
        if place is not None:
            text = self._tokenizer.text(path.ids)
            path.kept = text[:place], tokens_within(self._tokenizer, path.ids, place)
            return "stop"
        return "length" if len(path.ids) >= self.options.max_tokens else None

    def steer(self, predict: Predict) -> dict[Path, Path]:
        """Choose among blocks and drop the hopeless, after a step and after those that finished have left.

        Returns:
            New paths, each with the live one that it is a copy of. Paths no longer in ``live`` leave the batch.
        """
        self._steps += 1
        copies = self._choose_blocks(predict) if self.width > 1 else {}
        due = bool(copies) if self.width > 1 else self._steps % CHECK_TOKENS == 0
        if self.guide is not None and self.drops and due and self.live:
            self._drop(self.guide, predict, copies)
        return {path: source for path, source in copies.items() if path in self.live}

    def tell(self) -> None:
        """Pass on what has become certain of the first candidate's text."""
        if self._stream is None:
            return
        if self.finished:
            self._stream.finish(self.candidate(0).text)
        elif self.live and (self.width == 1 or len(self.live[0].ids) == self._block_starts[0]):
            self._stream.advance(self._tokenizer.text(self.live[0].ids))

    def candidates(self) -> list[Candidate]:
        """All ``n`` candidates, in order.

        Raises:
            NonFiniteReward: If the network yielded values that are not finite.
        """
        return [self.candidate(number) for number in range(self.distinct)] * (self.n // self.distinct)

    def candidate(self, number: int) -> Candidate:
        """A finished candidate, with its rewards averaged over the tokens kept; see ``candidates``."""
        path = self.done[number]
        text, _ = path.kept or (self._tokenizer.text(path.ids), 0)
        if path.finish is None:
            raise RuntimeError("A candidate that is under way was asked for.")
        rewards = path.promised if path.finish == "dropped" else self._mean_rewards(path)
        if rewards is None or not np.isfinite(rewards).all():
            raise NonFiniteReward("A candidate's basis reward is not finite; check the model's weights.")
        return Candidate(clean(text), len(path.ids), path.finish, rewards)

    def _path(self, number: int, continuation: int) -> Path:
        options = self.options
        return Path(self, number, continuation, uniform_stream(options.seed, number, continuation, options.max_tokens))

    def _mean_rewards(self, path: Path) -> Float64[np.ndarray, " basis"]:
        count = path.kept[1] if path.kept is not None else len(path.ids)
        mean: np.ndarray = path.rewards[:count].mean(axis=0) if count else self.prompt_rewards
        return mean + self.offset

    def _known(self, path: Path) -> float:
        """The reward of a finished path, predicted where nothing reads rewards during decoding."""
        rewards = self._mean_rewards(path) if path.promised is None else path.promised
        return float(self._coefficients @ rewards)

    def _choose_blocks(self, predict: Predict) -> dict[Path, Path]:
        """Where all paths of a candidate are through their blocks, the best goes on, and copies replace the rest."""
        copies: dict[Path, Path] = {}
        for number in sorted({path.number for path in (*self.live, *self._ended)}):
            live = [path for path in self.live if path.number == number]
            start = self._block_starts[number]
            if live and len(live[0].ids) < start + self.steering.block_tokens:
                continue
            winner = self._choose(live, [path for path in self._ended if path.number == number], start, predict)
            self._ended = [path for path in self._ended if path.number != number]
            self.live = [path for path in self.live if path.number != number or path is winner]
            if winner.finish is not None:
                self.done[number] = winner
                continue
            self._block_starts[number] = len(winner.ids)
            for other in set(range(self.width)) - {winner.continuation}:
                copy = self._path(number, other)
                copy.ids = list(winner.ids)
                copies[copy] = winner
                self.live.append(copy)
        return copies

    def _choose(self, live: list[Path], ended: list[Path], start: int, predict: Predict) -> Path:
        """The path with the largest reward, real or promised; level ones in the order of their streams."""
        promised = predict(live) @ self._coefficients if live else np.zeros(0)
        values = dict(zip(live, promised, strict=True)) | {path: self._known(path) for path in ended}
        paths = sorted(values, key=lambda path: path.continuation)
        winner = paths[int(np.argmax([values[path] for path in paths]))]
        self.discarded += sum(len(path.ids) - start for path in paths if path is not winner)
        return winner

    def _drop(self, guide: Guide, predict: Predict, copies: dict[Path, Path]) -> None:
        """Stop candidates that will not become the best; what their tokens promise becomes their rewards.

        One in the middle of a block, which joined later than the others, is compared but goes on to the block's end.
        """
        first = {path.number: copies.get(path, path) for path in reversed(self.live)}
        promised = predict(list(first.values()))
        variances = guide.variances(self._coefficients, [len(path.ids) for path in first.values()])
        known = [self._known(path) for path in self.done.values() if path.finish != "dropped"]
        rewards = np.array([*(promised @ self._coefficients), *known])
        found = hopeless(rewards, np.array([*variances, *[0.0] * len(known)]), self.steering.drop_below)
        for path, prediction, is_hopeless in zip(first.values(), promised, found, strict=False):
            if is_hopeless and (self.width == 1 or len(path.ids) == self._block_starts[path.number]):
                path.finish, path.promised = "dropped", prediction
                self.discarded += len(path.ids)
                self.done[path.number] = path
                self.live = [one for one in self.live if one.number != path.number]
