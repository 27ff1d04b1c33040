from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from app.rewards.artifact import BasisArtifact
from app.rewards.language import LanguageModel, load_language_model
from tests.fakes.tiny_model import write_tiny_basis, write_tiny_model


@pytest.fixture(scope="session", params=["llama", "qwen2"])
def checkpoint(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    return write_tiny_model(tmp_path_factory.mktemp(request.param), request.param)


@pytest.fixture(scope="session")
def model(checkpoint: Path) -> LanguageModel:
    return load_language_model(checkpoint)


@pytest.fixture(scope="session")
def reference(checkpoint: Path) -> Any:
    return AutoModelForCausalLM.from_pretrained(checkpoint, dtype=torch.float32).eval()


@pytest.fixture(scope="session")
def basis(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> BasisArtifact:
    return write_tiny_basis(tmp_path_factory.mktemp("basis"), checkpoint)
