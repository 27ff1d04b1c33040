from pathlib import Path

import pytest
import torch

from app.rewards.artifact import BasisArtifact
from app.rewards.language import LanguageModel, load_language_model
from tests.fakes.tiny_model import write_tiny_basis, write_tiny_model


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    return write_tiny_model(tmp_path_factory.mktemp("llama"))


@pytest.fixture(scope="session")
def model(checkpoint: Path) -> LanguageModel:
    return load_language_model(checkpoint)


@pytest.fixture(scope="session")
def basis(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> BasisArtifact:
    return write_tiny_basis(tmp_path_factory.mktemp("basis"), checkpoint)
