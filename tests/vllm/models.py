"""Small checkpoints that vLLM can serve on a processor, with bases and random value heads for them."""

import json
from pathlib import Path
from typing import Literal

import numpy as np

from app.config import BUNDLED
from app.rewards.artifact import BasisArtifact, load_basis
from app.rewards.values import ValueHeads, load_values, save_values
from tests.fakes.tiny_model import write_tiny_basis, write_tiny_model

Kind = Literal["bundled", "llama", "qwen2"]
SIZES = {
    "llama": {"hidden_size": 64, "num_attention_heads": 2, "num_key_value_heads": 1},
    "qwen2": {"hidden_size": 128, "num_attention_heads": 2, "num_key_value_heads": 1},
}
"""Head sizes of 32 and 64, which vLLM's kernels for processors have."""


def write_model(kind: Kind, directory: Path) -> tuple[Path, BasisArtifact]:
    """A checkpoint and a basis for it; the bundled ones are used where they are."""
    if kind == "bundled":
        return BUNDLED / "model", load_basis(BUNDLED / "basis")
    model = write_tiny_model(directory / "model", kind, **SIZES[kind])
    return model, write_tiny_basis(directory / "basis", model, hidden=SIZES[kind]["hidden_size"])


def values_for(kind: Kind, model: Path, artifact: BasisArtifact) -> ValueHeads:
    """The bundled value heads for the bundled basis; for others, ones without any skill."""
    return load_values(BUNDLED / "basis" / "values") if kind == "bundled" else random_values(model, artifact)


def random_values(model: Path, artifact: BasisArtifact, rank: int = 4, seed: int = 11) -> ValueHeads:
    """Value heads without any skill, large enough that guidance changes what is written; kept beside the model."""
    rng = np.random.default_rng(seed)
    size, hidden = artifact.heads.shape
    vocabulary = int(json.loads((model / "config.json").read_text())["vocab_size"])

    def random(*shape: int) -> np.ndarray:
        return rng.standard_normal(shape).astype(np.float32)

    return save_values(
        model.parent / "values",
        artifact=artifact,
        model_directory=model,
        bounds=np.array([1, 4, 12]),
        weight=random(3, size, 2 * hidden) * 0.2,
        offset=random(3, size),
        errors=np.stack([np.eye(size) * spread for spread in (1.0, 0.5, 0.2)]),
        action_states=random(size, rank, hidden) * 0.2,
        action_offset=random(size, rank),
        action_tokens=random(vocabulary, rank),
        scale=0.5,
        max_tokens=24,
        provenance={"made": "for tests"},
    )
