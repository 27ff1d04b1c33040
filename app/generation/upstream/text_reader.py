"""What reads the rewards of texts that another server wrote. Runs in the thread that owns the trunk; asks nobody."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float64

from app.entities import Candidate, CandidateSet, Conversation, Message, SamplingOptions
from app.errors import PromptTooLong
from app.generation.upstream.upstream_texts import Texts, Written
from app.generation.upstream.virtual_rewards import VirtualRewards, read_export
from app.generation.worker import Check
from app.rewards.artifact import BasisArtifact, check_model
from app.rewards.language import ChatTokenizer, load_language_model
from app.rewards.scorer import basis_rewards
from app.rewards.trunk import Row, Trunk
from app.rewards.trunk_transformers import trunk_of

_WARM_UP = ((Message("user", "Hello"),), "Hello!")


@dataclass(frozen=True)
class TextReader:
    """The trunk of ``artifact``, with the tokenizer of the model that the basis was made for.

    With ``virtual``, rewards are those that the server told along with its texts, where it told them.
    """

    artifact: BasisArtifact
    tokenizer: ChatTokenizer
    trunk: Trunk
    virtual: VirtualRewards | None

    @classmethod
    def load(
        cls, directory: Path, artifact: BasisArtifact, exported: Path | None, *, device: str, threads: int, check: Check
    ) -> "TextReader":
        """Load the trunk and read one text with it.

        Args:
            directory: The checkpoint that the basis was made for.
            artifact: The basis.
            exported: Where the ``attune.json`` is of what the server serves; None if it is an ordinary model.
            device: Where the trunk runs, as torch names it.
            threads: Processor threads of the thread that calls this, from now on.
            check: Called before every forward pass.

        Raises:
            ArtifactError: If a file is missing or broken.
            ArtifactIncompatible: If the basis, the checkpoint and ``attune.json`` were not made for each other.
        """
        torch.set_num_threads(threads)
        check_model(artifact.manifest, directory)
        export = None if exported is None else read_export(exported, artifact)
        model = load_language_model(directory, device=device)
        virtual = None if export is None else VirtualRewards(export, model.tokenizer)
        reader = cls(artifact, model.tokenizer, trunk_of(artifact, model), virtual)
        reader.rewards([_WARM_UP], check, truncate=True)
        return reader

    def check_room(self, conversation: Conversation) -> None:
        """Raise ``PromptTooLong`` where the trunk could read nothing of a response."""
        count = self.trunk.prompt_count(conversation)
        if count >= self.trunk.context:
            raise PromptTooLong(count, 1, self.trunk.context)

    def rewards(self, rows: list[Row], check: Check, *, truncate: bool = False) -> Float64[np.ndarray, "rows basis"]:
        """As ``rewards.scorer.basis_rewards``."""
        return basis_rewards(self.trunk, self.artifact, rows, check=check, truncate=truncate)

    def candidates(
        self, conversation: Conversation, options: SamplingOptions, texts: Texts, check: Check
    ) -> CandidateSet:
        """Every text with the rewards that the server told, or of as much of it as the trunk's context holds.

        Args:
            conversation: What the texts answer.
            options: How they were asked for.
            texts: The server's answer.
            check: Called before every forward pass; whatever it raises ends the reading.

        Raises:
            EngineUnreachable: If the server should have told rewards and did not.
            NonFiniteReward: If a reward is not finite.
        """
        told = [self._told(one, options) for one in texts.written]
        unread = [(conversation, one.text) for one, found in zip(texts.written, told, strict=True) if found is None]
        rewards = iter(self.rewards(unread, check, truncate=True) if unread else ())
        candidates = tuple(
            found or Candidate(one.text, self._tokens(one), one.finish, next(rewards))
            for one, found in zip(texts.written, told, strict=True)
        )
        prompt_tokens = texts.prompt_tokens
        if prompt_tokens is None:
            prompt_tokens = len(self.tokenizer.prompt_ids(conversation))
        return CandidateSet(candidates, prompt_tokens, sum(one.tokens for one in candidates))

    def _told(self, one: Written, options: SamplingOptions) -> Candidate | None:
        if self.virtual is None or one.choice is None:
            return None
        return self.virtual.candidate(one.choice, options)

    def _tokens(self, one: Written) -> int:
        """As the server counts, or as our tokenizer does."""
        return len(self.tokenizer.response_ids(one.text)) if one.tokens is None else one.tokens
