"""Basis reward heads where the model lives."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float64
from torch import Tensor

from app.errors import ArtifactIncompatible
from app.rewards.artifact import BasisArtifact
from app.rewards.language import LanguageModel


@dataclass(frozen=True)
class Heads:
    """Basis reward heads on the model's device: ``weight`` (K, hidden) and ``offset`` (K,)."""

    weight: Tensor
    offset: Float64[np.ndarray, " basis"]

    @classmethod
    def on(cls, model: LanguageModel, artifact: BasisArtifact) -> "Heads":
        """The heads of ``artifact``, moved to where ``model`` lives.

        Raises:
            ArtifactIncompatible: If they were made for another hidden size.
        """
        if artifact.heads.shape[1] != model.network.shape.hidden:
            raise ArtifactIncompatible(
                f"Basis {artifact.basis.version} reads {artifact.heads.shape[1]} hidden values, the model has "
                f"{model.network.shape.hidden}; use the model that the basis was made for."
            )
        return cls(torch.tensor(artifact.heads, device=model.device), artifact.offset.astype(np.float64))

    @classmethod
    def none(cls, model: LanguageModel) -> "Heads":
        """No heads at all, for texts whose rewards another network gives, or nobody asks for."""
        return cls(torch.zeros(0, model.network.shape.hidden, device=model.device), np.zeros(0))
