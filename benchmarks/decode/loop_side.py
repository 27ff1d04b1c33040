"""attune's loop for one request against transformers' ``generate``, in this process, from the same weights."""

from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM

from app.entities import Message, SamplingOptions
from app.generation.batch.decoding import Heads, decode
from app.rewards.artifact import BasisArtifact
from app.rewards.language import load_language_model
from benchmarks.decode.endless import PROMPTS, TEMPERATURE, TOP_P
from benchmarks.decode.turns import Taken, timed


class LoopSides:
    """Every method takes one turn with a new seed: ``n`` candidates of ``tokens`` tokens for one prompt."""

    def __init__(self, model_directory: Path, basis: BasisArtifact, n: int, tokens: int) -> None:
        self.model = load_language_model(model_directory)
        self.heads, self.none = Heads.on(self.model, basis), Heads.none(self.model)
        self.n, self.tokens, self.seed = n, tokens, 0
        self.prompt = self.model.tokenizer.prompt_ids((Message("user", PROMPTS[0]),))
        self.reference: Any = AutoModelForCausalLM.from_pretrained(model_directory, dtype=torch.float32).eval()
        self.reference.generation_config.eos_token_id = None
        self.reference.generation_config.pad_token_id = 0

    def rewards(self) -> Taken:
        """attune's loop, with basis rewards."""
        return timed(lambda: self._decode(self.heads, self.n))

    def texts(self) -> Taken:
        """attune's loop without reading rewards."""
        return timed(lambda: self._decode(self.none, self.n))

    def single(self) -> Taken:
        """One candidate alone, with rewards."""
        return timed(lambda: self._decode(self.heads, 1))

    def generate(self) -> Taken:
        """Texts by transformers."""
        return timed(lambda: self._generated(self._drawn()))

    def generate_and_score(self) -> Taken:
        """Texts by transformers, and the pass over them that rewards take."""
        return timed(self._drawn_and_scored)

    def _decode(self, heads: Heads, n: int) -> int:
        self.seed += 1
        options = SamplingOptions(self.tokens, TEMPERATURE, TOP_P, self.seed)
        drawn = decode(self.model, heads, self.prompt, n, options, check=lambda: None)
        return sum(one.tokens for one in drawn)

    @torch.inference_mode()
    def _drawn(self) -> torch.Tensor:
        prompt = torch.tensor([self.prompt])
        drawn: torch.Tensor = self.reference.generate(
            prompt,
            attention_mask=torch.ones_like(prompt),
            do_sample=True,
            temperature=TEMPERATURE,
            top_p=TOP_P,
            top_k=0,
            num_return_sequences=self.n,
            max_new_tokens=self.tokens,
            suppress_tokens=list(self.model.tokenizer.banned_ids),
        )
        return drawn

    def _generated(self, drawn: torch.Tensor) -> int:
        return drawn.shape[0] * (drawn.shape[1] - len(self.prompt))

    @torch.inference_mode()
    def _drawn_and_scored(self) -> int:
        drawn = self._drawn()
        states = self.reference.model(drawn).last_hidden_state[:, len(self.prompt) :]
        assert (states.mean(dim=1) @ self.heads.weight.T).isfinite().all()
        return self._generated(drawn)
