"""Runs in the environment that has vLLM, and is left out where there is none. One engine serves a whole module."""

import importlib.util
import os
from pathlib import Path

import pytest
import torch

from tests.vllm.servers import ENVIRONMENT

if importlib.util.find_spec("vllm") is None:
    collect_ignore_glob = ["test_*.py"]
else:
    os.environ.update({name: value for name, value in ENVIRONMENT.items() if name not in os.environ})

HERE = Path(__file__).parent


@pytest.hookimpl
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """vLLM and what it imports warn a lot; nothing here can change that."""
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.filterwarnings("default"))


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)
