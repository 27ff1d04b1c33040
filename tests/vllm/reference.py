"""The same numbers by the plainest code on transformers' own models, one text at a time and without a cache."""

from pathlib import Path

import numpy as np
import torch
from transformers import AutoModelForCausalLM

from app.generation.batch.sampling import PLAUSIBLE
from app.rewards.artifact import BasisArtifact
from app.rewards.export import load_tokenizer
from app.rewards.values import ValueHeads


class Reference:
    """A checkpoint with the heads of a basis."""

    def __init__(self, directory: Path, artifact: BasisArtifact, values: ValueHeads | None = None) -> None:
        self.model = AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32).eval()
        self.tokenizer = load_tokenizer(directory, self.model.config.vocab_size)
        self.artifact, self.values = artifact, values

    def states(self, ids: list[int]) -> torch.Tensor:
        """Last hidden states (tokens, hidden)."""
        with torch.inference_mode():
            return self.model.model(torch.tensor([ids])).last_hidden_state[0]

    def log_probabilities(self, prompt: list[int], response: list[int]) -> np.ndarray:
        """Log-probability of each token of a response."""
        states = self.states([*prompt, *response])[len(prompt) - 1 : -1]
        with torch.inference_mode():
            scores = torch.log_softmax(self.model.lm_head(states), dim=-1)
        return scores[range(len(response)), response].numpy()

    def rewards(self, prompt: list[int], response: list[int]) -> np.ndarray:
        """Basis rewards of a response."""
        states = self.states([*prompt, *response])[len(prompt) :].double().numpy()
        return states.mean(axis=0) @ self.artifact.heads.T.astype(np.float64) + self.artifact.offset

    def promise(self, prompt: list[int], response: list[int]) -> np.ndarray:
        """What V promises for a beginning, by its definition."""
        values, states = self.values, self.states([*prompt, *response])[len(prompt) :].double().numpy()
        assert values is not None
        bucket = int(np.searchsorted(values.bounds, len(states), side="right") - 1)
        return values.weight[bucket] @ np.concatenate([states[-1], states.mean(axis=0)]) + values.offset[bucket]

    def greedy(self, prompt: list[int], most: int, coefficients: np.ndarray | None = None) -> list[int]:
        """The most probable continuation, tilted by ``coefficients`` if there are any."""
        ids: list[int] = []
        while len(ids) < most:
            state = self.states([*prompt, *ids])[-1]
            with torch.inference_mode():
                logits = self.model.lm_head(state).double().numpy()
            logits[list(self.tokenizer.banned_ids) + (list(self.tokenizer.end_ids) if not ids else [])] = -np.inf
            if coefficients is not None:
                logits = np.where(
                    logits >= logits.max() + np.log(PLAUSIBLE), logits + self.tilt(state, coefficients), -np.inf
                )
            token = int(logits.argmax())
            if token in self.tokenizer.end_ids:
                break
            ids.append(token)
        return ids

    def tilt(self, state: torch.Tensor, coefficients: np.ndarray) -> np.ndarray:
        """What guidance adds to each token's log-probability, by its definition."""
        values = self.values
        assert values is not None
        per_axis = np.stack(
            [
                values.action_tokens @ (values.action_states[axis] @ state.numpy() + values.action_offset[axis])
                for axis in range(len(coefficients))
            ]
        )
        return values.scale * coefficients @ per_axis
