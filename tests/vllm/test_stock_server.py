"""A stock vLLM server, which knows nothing of attune, tells the basis rewards of what it writes."""

from collections.abc import Iterator

import httpx2
import numpy as np
import pytest

from app.config import BUNDLED
from app.entities import Message
from app.rewards.artifact import load_basis
from app.rewards.export import ExportedCheckpoint, export_checkpoint
from tests.vllm.reference import Reference
from tests.vllm.servers import stock_server

TOKENS = 12
TOLERANCE = 1e-4
QUESTION = "How do I keep a plant alive?"


@pytest.fixture(scope="module")
def export(tmp_path_factory: pytest.TempPathFactory) -> ExportedCheckpoint:
    basis = load_basis(BUNDLED / "basis")
    return export_checkpoint(BUNDLED / "model", basis, tmp_path_factory.mktemp("export"))


@pytest.fixture(scope="module")
def address(export: ExportedCheckpoint, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with stock_server(export.directory, tmp_path_factory.mktemp("log")) as address:
        yield address


def _answer(address: str, export: ExportedCheckpoint, **changed: object) -> dict:
    rows = export.rows
    virtual = list(range(rows.first, rows.end))
    body = {
        "model": "served",
        "messages": [{"role": "user", "content": QUESTION}],
        "max_tokens": TOKENS + 1,
        "temperature": 0.0,
        "logprobs": True,
        "logprob_token_ids": virtual,
        "logit_bias": {str(one): -100 for one in virtual},
        "return_tokens_as_token_ids": True,
        **changed,
    }
    reply = httpx2.post(f"{address}/chat/completions", json=body, timeout=120)
    assert reply.status_code == 200, reply.text
    return reply.json()["choices"][0]


def _rows(choice: dict, export: ExportedCheckpoint) -> tuple[list[int], np.ndarray]:
    """The token ids, and before each of them the basis rewards of the text so far."""
    ids, rows = [], []
    for step in choice["logprobs"]["content"]:
        ids.append(int(step["token"].removeprefix("token_id:")))
        scores = {int(one["token"].removeprefix("token_id:")): one["logprob"] for one in step["top_logprobs"]}
        first, zero = export.rows.first, export.rows.zero
        rows.append([scores[one] - scores[zero] for one in range(first, zero)])
    return ids, np.array(rows) + np.array(export.offset)


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_rewards_in_the_answer_are_those_of_transformers(
    address: str, export: ExportedCheckpoint, temperature: float
) -> None:
    ids, rows = _rows(_answer(address, export, temperature=temperature, seed=4, ignore_eos=True), export)
    reference = Reference(BUNDLED / "model", load_basis(BUNDLED / "basis"))
    prompt = reference.tokenizer.prompt_ids((Message("user", QUESTION),))
    expected = reference.rewards(prompt, ids[:TOKENS])
    assert np.abs(rows[1 : TOKENS + 1].mean(axis=0) - expected).max() < TOLERANCE


def test_virtual_tokens_are_not_sampled(address: str, export: ExportedCheckpoint) -> None:
    ids, _ = _rows(_answer(address, export, temperature=1.5, max_tokens=100, seed=1, ignore_eos=True), export)
    assert max(ids) < export.rows.first


def test_the_text_is_that_of_the_model_alone(address: str, export: ExportedCheckpoint) -> None:
    choice = _answer(address, export)
    reference = Reference(BUNDLED / "model", load_basis(BUNDLED / "basis"))
    prompt = reference.tokenizer.prompt_ids((Message("user", QUESTION),))
    expected = reference.tokenizer.text(reference.greedy(prompt, TOKENS + 1))
    assert choice["message"]["content"] == expected
