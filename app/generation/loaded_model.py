"""A checkpoint with its basis, loaded and ready to decode: what the thread of the torch engine owns.

Knows no queue, no callers and no users.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import structlog
import torch

from app.entities import Candidate, Conversation, Message, SamplingOptions, Steering
from app.errors import PromptTooLong
from app.generation.batch.drawing import Drawing
from app.generation.batch.guided import Guide
from app.generation.batch.heads import Heads
from app.generation.batch.scheduler import Scheduler
from app.generation.hardware import usual_threads
from app.generation.observer import EngineObserver
from app.rewards.artifact import BasisArtifact, check_model
from app.rewards.language import LanguageModel, load_language_model
from app.rewards.scorer import basis_rewards
from app.rewards.trunk import Trunk
from app.rewards.trunk_transformers import trunk_of
from app.rewards.values import ValueHeads, check_values

log = structlog.get_logger("attune.engine")

_WARM_UP = SamplingOptions(max_tokens=3, temperature=1.0, top_p=0.9, seed=0)
_WARM_UP_SIZES = (1, 4, 16)
_WARM_UP_PROMPT = (Message("user", "Hello"),)


@dataclass
class LoadedModel:
    """The language model, what reads basis rewards, and the running batch.

    Where the basis has a ``trunk`` of its own, nothing is read while decoding and finished texts are read afterwards,
    which took ``seconds_scoring`` so far.
    """

    artifact: BasisArtifact
    model: LanguageModel
    trunk: Trunk
    guide: Guide | None
    scheduler: Scheduler
    seconds_scoring: float = 0.0

    @classmethod
    def load(
        cls,
        directory: Path,
        artifact: BasisArtifact,
        values: ValueHeads | None,
        *,
        device: str,
        dtype: torch.dtype,
        threads: int | None,
        max_rows: int,
        prefix_tokens: int,
    ) -> "LoadedModel":
        """Load everything, after checking that it was made for each other.

        Args:
            directory: The checkpoint.
            artifact: The basis.
            values: Value heads, if there are any.
            device: Where the model runs, as torch names it.
            dtype: Precision of weights and states.
            threads: Processor threads of the thread that calls this, from now on; None takes ``usual_threads``.
            max_rows: Texts decoded together.
            prefix_tokens: Tokens of prompts to keep.

        Raises:
            ArtifactError: If the checkpoint, or the basis' trunk, is missing or broken.
            ArtifactIncompatible: If basis or value heads were made for another model, or the architecture is not
                supported.
        """
        most = torch.get_num_threads()
        torch.set_num_threads(threads or 1)  # holds for the thread that calls it
        check_model(artifact.manifest, directory)
        if values is not None:
            check_values(values, artifact, directory)
        model = load_language_model(directory, device=device, dtype=dtype)
        torch.set_num_threads(threads or usual_threads(model.network.shape.hidden, most))
        trunk = trunk_of(artifact, model)
        if trunk.context < model.context:
            effect = "basis rewards of a response that is too long for the trunk are those of its beginning"
            log.warning("short_trunk", trunk_context=trunk.context, model_context=model.context, effect=effect)
        heads = Heads.none(model) if artifact.trunk else Heads.on(model, artifact)
        guide = None if values is None else Guide(model, values)
        scheduler = Scheduler(model, heads, guide=guide, max_rows=max_rows, prefix_tokens=prefix_tokens)
        return cls(artifact, model, trunk, guide, scheduler)

    def warm_up(self, observer: EngineObserver, check: Callable[[], None]) -> None:
        """Run every kind of step once: kernels are chosen then, and the step times have a slope to begin with.

        Args:
            observer: Told of everything that comes afterwards.
            check: Called before every request and forward pass; whatever it raises ends the warm-up.
        """
        scheduler, tokenizer = self.scheduler, self.model.tokenizer
        ids = tokenizer.prompt_ids(_WARM_UP_PROMPT)
        drawings = [Drawing(ids, min(size, scheduler.max_rows), _WARM_UP, tokenizer) for size in _WARM_UP_SIZES]
        if self.guide is not None:
            steering = Steering((0.1,) * self.guide.size, guidance="token", drop_below=0.01)
            drawings.append(Drawing(ids, 2, _WARM_UP, tokenizer, steering=steering, guide=self.guide))
        for drawing in drawings:
            check()
            scheduler.start(drawing)
            while not drawing.finished:
                scheduler.step()
        self.score(_WARM_UP_PROMPT, drawings[0].candidates(), check)
        scheduler.prefixes.forget()
        scheduler.seconds, scheduler.observer, self.seconds_scoring = 0.0, observer, 0.0

    def fitting_prompt(self, conversation: Conversation, max_tokens: int) -> list[int]:
        """The prompt's token ids; raises ``PromptTooLong`` unless model and trunk have room for a response to it."""
        ids = self.model.tokenizer.prompt_ids(conversation)
        if len(ids) + max_tokens > self.model.context:
            raise PromptTooLong(len(ids), max_tokens, self.model.context)
        if self.artifact.trunk is not None:
            count = self.trunk.prompt_count(conversation)
            if count >= self.trunk.context:
                raise PromptTooLong(count, 1, self.trunk.context)
        return ids

    def score(
        self, conversation: Conversation, drawn: Sequence[Candidate], check: Callable[[], None]
    ) -> list[Candidate]:
        """The candidates with the basis rewards that the trunk gives to as much of their texts as it holds.

        Those that were dropped keep what was predicted for them. Equal texts are read once.

        Raises:
            NonFiniteReward: If the trunk yields values that are not finite.
        """
        began = time.perf_counter()
        texts = list(dict.fromkeys(one.text for one in drawn if one.finish_reason != "dropped"))
        rows = [(conversation, text) for text in texts]
        found = basis_rewards(self.trunk, self.artifact, rows, check=check, truncate=True)
        of_text = dict(zip(texts, found, strict=True))
        self.seconds_scoring += time.perf_counter() - began
        return [
            one if one.finish_reason == "dropped" else replace(one, basis_rewards=of_text[one.text]) for one in drawn
        ]
