"""One request's candidates on vLLM: drawn at once, dropped when hopeless, or written block by block.

Every candidate is a request of its own to vLLM, which reads their common prompt once and decodes them together. Knows
text and rewards, but neither queue nor deadlines: whoever cancels ``run`` ends all of it.
"""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from jaxtyping import Float64

from app.entities import Candidate, CandidateSet, FinishReason, SamplingOptions, Steering
from app.errors import NonFiniteReward
from app.generation.batch.best_of_n import CHECK_TOKENS, hopeless
from app.generation.batch.written import TextStream, clean, stop_place, tokens_within
from app.generation.vllm.vllm_client import Draw, VllmClient
from app.generation.vllm.vllm_promises import Promises
from app.rewards.language import ChatTokenizer

_NO_STEERING = Steering(())


@dataclass(eq=False)
class Text:
    """A candidate under way or finished.

    ``raw`` are the ids as vLLM returned them; ``ids`` those that belong to the text, once it is ``finish``ed. The first
    ``looked_at`` were searched for stop strings. ``kept`` is what such a string left of the text, with its number of
    tokens. ``rewards`` (K,) are final, or promised if it was dropped.
    """

    number: int
    key: str = ""
    raw: list[int] = field(default_factory=list)
    ids: list[int] = field(default_factory=list)
    finish: FinishReason | None = None
    looked_at: int = 0
    kept: tuple[str, int] | None = None
    rewards: Float64[np.ndarray, " basis"] | None = None

    @property
    def count(self) -> int:
        """Tokens that the rewards are averaged over."""
        return len(self.ids) if self.kept is None else self.kept[1]

    def is_over_by(self, tokens: int) -> bool:
        """Whether it was finished when the others had so many tokens; an end mark takes a step of its own."""
        if self.finish is None:
            return False
        ended_by_mark = self.finish == "stop" and self.kept is None
        return len(self.ids) + ended_by_mark <= tokens


class VllmDrawing:
    """``n`` candidates of one prompt."""

    def __init__(
        self,
        client: VllmClient,
        tokenizer: ChatTokenizer,
        offset: Float64[np.ndarray, " basis"],
        prompt_ids: list[int],
        n: int,
        options: SamplingOptions,
        *,
        steering: Steering | None = None,
        promises: Promises | None = None,
        on_text: Callable[[str], None] | None = None,
    ) -> None:
        """Prepare; nothing is sent to vLLM.

        Args:
            client: The engine.
            tokenizer: Turns tokens into text.
            offset: Added to the mean of the reward rows.
            prompt_ids: The rendered conversation; with ``options.max_tokens`` it fits into the context.
            n: Number of candidates. At temperature 0 all are the same one, drawn once.
            options: How to sample.
            steering: How a person's reward acts; what needs ``promises`` does nothing without.
            promises: The value heads.
            on_text: Told of pieces of the first candidate's text as they become certain.
        """
        self.client, self.tokenizer, self.offset, self.options = client, tokenizer, offset, options
        self.prompt_ids, self.n = prompt_ids, n
        self.distinct = 1 if options.temperature == 0 else n
        self.steering = steering or _NO_STEERING
        self.coefficients = np.array(self.steering.coefficients, np.float64)
        self.promises = promises
        guidance = self.steering.guidance if self.steering.strength != 0 else "none"
        self.in_blocks = guidance == "block" and promises is not None and options.temperature > 0
        self.tilt = (
            tuple(float(one) for one in self.coefficients * self.steering.strength) if guidance == "token" else None
        )
        self.drops = promises is not None and self.steering.drop_below > 0 and self.distinct > 1
        self.generated = self.discarded = self.reused = 0
        self.texts = [Text(number) for number in range(self.distinct)]
        self._keys: list[str] = []
        self._moved = asyncio.Event()
        self._stream = TextStream(options.stop, on_text) if on_text is not None else None

    @property
    def rows(self) -> int:
        """Requests that all candidates take together."""
        return self.distinct * (self.steering.continuations if self.in_blocks else 1)

    async def run(self) -> CandidateSet:
        """Draw all candidates.

        Raises:
            NonFiniteReward: If the network yields values that are not finite.
            Unavailable: If vLLM's processes have ended.
        """
        try:
            if self.in_blocks:
                await self._write_in_blocks()
            else:
                await self._write_at_once()
        except BaseExceptionGroup as several:
            raise several.exceptions[0] from several
        finally:
            self.client.forget(self._keys)
        candidates = tuple(self._candidate(text) for text in self.texts) * (self.n // self.distinct)
        if self._stream is not None:
            self._stream.finish(candidates[0].text)
        return CandidateSet(candidates, len(self.prompt_ids), self.generated, self.discarded, self.reused)

    async def _write_at_once(self) -> None:
        """All candidates from their first to their last token, with the hopeless dropped on the way."""
        for text in self.texts:
            text.key = self._new_key()
        writers = {text: self._write(text) for text in self.texts}
        async with asyncio.TaskGroup() as group:
            tasks = {text: group.create_task(writer) for text, writer in writers.items()}
            if self.drops:
                await self._drop_the_hopeless(tasks)
        self.generated += sum(len(text.ids) for text in self.texts)
        await self._read([text for text in self.texts if text.rewards is None])

    async def _write(self, text: Text) -> None:
        draw = Draw(text.number, self.options, 0, self.options.max_tokens, coefficients=self.tilt, values=self.drops)
        follows = bool(self.options.stop) or self.drops or self._stream is not None
        steps = self.client.steps(text.key, self.prompt_ids, draw, all_at_once=not follows)
        async with aclosing(steps):
            async for new, known in steps:
                text.raw += new
                self.reused = max(self.reused, known)
                self._cut(text, text.raw[: self.options.max_tokens])
                if text.kept is not None and len(text.raw) > text.kept[1]:
                    break  # the step that drew one more token has computed the rows of the last one kept
                self._tell(text)
                self._moved.set()
        if text.kept is None:
            text.ids, text.finish = self._ended(text.raw, self.options.max_tokens, limit=True)
        self._moved.set()

    def _cut(self, text: Text, ids: Sequence[int]) -> None:
        """Finish ``text`` at the first of its tokens with which it contains a stop string."""
        body, _ = self._ended(ids, len(ids), limit=False)
        while text.kept is None and text.looked_at < len(body):
            text.looked_at += 1
            place = stop_place(self.tokenizer, body[: text.looked_at], self.options.stop)
            if place is not None:
                text.ids, text.finish = body[: text.looked_at], "stop"
                text.kept = self.tokenizer.text(text.ids)[:place], tokens_within(self.tokenizer, text.ids, place)

    def _ended(self, raw: Sequence[int], most: int, *, limit: bool) -> tuple[list[int], FinishReason | None]:
        """The ids before an end mark, at most ``most``; how they ended, at the ``limit`` too if there is one."""
        ends = self.client.export.end_ids
        for place, one in enumerate(raw[:most]):
            if one in ends:
                return list(raw[:place]), "stop"
        return list(raw[:most]), "length" if limit else None

    def _tell(self, text: Text) -> None:
        if self._stream is not None and text.number == 0:
            body, _ = self._ended(text.raw, self.options.max_tokens, limit=False)
            self._stream.advance(self.tokenizer.text(body))

    async def _drop_the_hopeless(self, tasks: dict[Text, asyncio.Task[None]]) -> None:
        """Compare the candidates whenever all of them have so many more tokens, and stop those without a chance."""
        for tokens in range(CHECK_TOKENS, self.options.max_tokens, CHECK_TOKENS):
            while not all(text.finish or len(text.raw) > tokens for text in self.texts):
                self._moved.clear()
                await self._moved.wait()
            live = [text for text in self.texts if text.finish != "dropped" and not text.is_over_by(tokens)]
            if not live:
                return
            await self._read([text for text in self.texts if text.is_over_by(tokens) and text.rewards is None])
            promised = await self._promised([text.key for text in live], [tokens] * len(live))
            for text, rewards in self._hopeless(live, promised, [tokens] * len(live)):
                tasks[text].cancel()
                text.ids, text.finish, text.rewards, text.kept = text.raw[:tokens], "dropped", rewards, None
                self.discarded += tokens

    def _hopeless(
        self, live: Sequence[Text], promised: np.ndarray, counts: Sequence[int]
    ) -> list[tuple[Text, Float64[np.ndarray, " basis"]]]:
        """Those of ``live`` to be dropped, with what they promised; the finished take part with their rewards."""
        if self.promises is None:
            return []
        done = [text.rewards for text in self.texts if text not in live and text.finish != "dropped"]
        rewards = np.concatenate(
            [promised, np.reshape([one for one in done if one is not None], (-1, len(self.offset)))]
        )
        variances = np.zeros(len(rewards))
        variances[: len(live)] = self.promises.variances(self.coefficients, counts)
        gone = hopeless(rewards @ self.coefficients, variances, self.steering.drop_below)
        return [(text, promised[place]) for place, text in enumerate(live) if gone[place]]

    async def _promised(self, keys: Sequence[str], counts: Sequence[int]) -> Float64[np.ndarray, "texts basis"]:
        readings = await self.client.read(keys, counts, drop=False)
        if self.promises is None:
            return readings[:, 0, :0]
        return self.promises.predict(readings, counts)

    async def _read(self, texts: Sequence[Text]) -> None:
        """Fill in the rewards of finished texts."""
        if not texts:
            return
        counts = [text.count for text in texts]
        readings = await self.client.read([text.key for text in texts], counts)
        for text, count, reading in zip(texts, counts, readings, strict=True):
            text.rewards = reading[0, : len(self.offset)] / max(count, 1) + self.offset

    async def _write_in_blocks(self) -> None:
        """In rounds: every candidate goes on with the block that promises most; then the hopeless are dropped."""
        sums = np.zeros((self.distinct, self.client.export.rows.actions - self.client.export.rows.first))
        while live := [text for text in self.texts if text.finish is None]:
            chosen = await together([self._write_block(text, sums[text.number]) for text in live])
            for text, (reading, _) in zip(live, chosen, strict=True):
                sums[text.number] = reading
            going = [(text, promised) for text, (_, promised) in zip(live, chosen, strict=True) if text.finish is None]
            if self.drops and going:
                going_texts, promised = [text for text, _ in going], np.stack([one for _, one in going])
                for text, rewards in self._hopeless(going_texts, promised, [len(text.ids) for text in going_texts]):
                    text.finish, text.rewards = "dropped", rewards
                    self.discarded += len(text.ids)

    async def _write_block(
        self, text: Text, before: Float64[np.ndarray, " columns"]
    ) -> tuple[Float64[np.ndarray, " columns"], Float64[np.ndarray, " basis"]]:
        """Extend ``text`` by the best of its continuations; returns the sum of its rows, and its reward if it ended
        there or what it promises."""
        most = min(self.steering.block_tokens, self.options.max_tokens - len(text.ids))
        branches = [Text(text.number, key=self._new_key()) for _ in range(self.steering.continuations)]
        draws = [
            Draw(text.number, self.options, len(text.ids), most, turn, values=True) for turn in range(len(branches))
        ]
        prompt = [*self.prompt_ids, *text.ids]
        raws = await together(
            [self.client.draw(branch.key, prompt, draw) for branch, draw in zip(branches, draws, strict=True)]
        )
        new = [self._grow(branch, text, raw, most) for branch, raw in zip(branches, raws, strict=True)]
        readings = await self.client.read([branch.key for branch in branches], new)
        totals = np.where(np.array(new)[:, None] > 0, readings[:, 0], 0.0) + before
        worth = await together([self._worth(*one) for one in zip(branches, totals, readings[:, 1], strict=True)])
        best = int(np.argmax(np.stack(worth) @ self.coefficients))
        self.generated += sum(new)
        self.discarded += sum(new) - new[best]
        winner = branches[best]
        text.ids, text.finish, text.kept = winner.ids, winner.finish, winner.kept
        if text.finish is not None:
            text.rewards = worth[best]
        self._tell(replace(text, raw=text.ids))
        return totals[best], worth[best]

    def _grow(self, branch: Text, text: Text, raw: Sequence[int], most: int) -> int:
        """Make ``branch`` a continuation of ``text`` by the ids that were drawn; returns how many belong to it."""
        body, branch.finish = self._ended(raw, most, limit=False)
        branch.ids = [*text.ids, *body]
        branch.looked_at = len(text.ids)
        self._cut(branch, branch.ids)
        if branch.finish is None and len(branch.ids) == self.options.max_tokens:
            branch.finish = "length"
        return len(branch.ids) - len(text.ids)

    async def _worth(self, branch: Text, total: np.ndarray, last: np.ndarray) -> Float64[np.ndarray, " basis"]:
        """The reward of a finished continuation, or what one under way promises."""
        size = len(self.offset)
        if branch.kept is not None:  # cut perhaps within an earlier block: its kept tokens are read once more
            key, ids = self._new_key(), branch.ids[: branch.count]
            await self.client.score(key, self.prompt_ids, ids)
            reading = (await self.client.read([key], [len(ids)]))[0]
            return np.asarray(reading[0, :size] / max(len(ids), 1) + self.offset)
        count = len(branch.ids)
        if branch.finish is None and self.promises is not None:
            return np.asarray(self.promises.predict(np.stack([total, last])[None], [count])[0])
        return np.asarray(total[:size] / count + self.offset)

    def _candidate(self, text: Text) -> Candidate:
        if text.rewards is None or not np.isfinite(text.rewards).all():
            raise NonFiniteReward("A candidate's basis reward is not finite; check the model's weights.")
        words = self.tokenizer.text(text.ids) if text.kept is None else text.kept[0]
        return Candidate(clean(words), len(text.ids), text.finish or "length", text.rewards)

    def _new_key(self) -> str:
        key = self.client.new_key()
        self._keys.append(key)
        return key


async def together(work: Sequence[Coroutine[Any, Any, Any]]) -> list[Any]:
    """The results of all, in order; the first error ends the others and is raised as itself."""
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(one) for one in work]
    except BaseExceptionGroup as several:
        raise several.exceptions[0] from several
    return [task.result() for task in tasks]
