import logging
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModel, AutoTokenizer, RobertaConfig, RobertaModel, T5Config

from app.entities import Conversation, Message
from app.errors import ArtifactError, ArtifactIncompatible, PromptTooLong
from app.rewards.scorer import LanguageModelTrunk, pooled_features
from app.rewards.trunk import Row
from app.rewards.trunk_transformers import TransformersTrunk, load_transformers_trunk, load_trunk
from tests.fakes.tiny_trunks import HIDDEN, write_tiny_trunk

ROUNDING = 1e-5  # float32, two or three layers
POOLINGS = [
    ("bert", "mean"),
    ("bert", "first_token"),
    ("bert", "response_mean"),
    ("gpt2", "response_mean"),
    ("gpt2", "last_token"),
    ("qwen2", "response_mean"),
    ("qwen2", "last_token"),
]


def _ask(*texts: str) -> Conversation:
    return tuple(Message("assistant" if number % 2 else "user", text) for number, text in enumerate(texts))


ROWS: list[Row] = [
    (_ask("Name a fruit."), "Apple, or a pear."),
    (_ask("Why?"), "Because."),
    (_ask("Why?"), ""),
    (_ask("Hi", "Yes?", "Name a fruit."), "A banana is a fruit that many like."),
]


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {kind: write_tiny_trunk(tmp_path_factory.mktemp(kind), kind) for kind in ("bert", "gpt2", "qwen2")}


@pytest.fixture(scope="module")
def trunks(checkpoints: dict[str, Path]) -> dict[tuple[str, str], TransformersTrunk]:
    return {
        (kind, pooling): load_transformers_trunk(checkpoints[kind], pooling, device="cpu") for kind, pooling in POOLINGS
    }


@pytest.mark.parametrize("which", POOLINGS, ids="-".join)
def test_batches_and_padding_do_not_change_features(trunks: Any, which: tuple[str, str]) -> None:
    alone = np.concatenate([trunks[which].features([row]) for row in ROWS])
    np.testing.assert_allclose(trunks[which].features(ROWS), alone, atol=ROUNDING)
    np.testing.assert_allclose(trunks[which].features(ROWS, batch_tokens=120), alone, atol=ROUNDING)


@pytest.mark.parametrize("which", POOLINGS, ids="-".join)
def test_features_come_in_the_order_of_the_rows(trunks: Any, which: tuple[str, str]) -> None:
    turned = trunks[which].features(ROWS[::-1])[::-1]
    np.testing.assert_allclose(trunks[which].features(ROWS), turned, atol=ROUNDING)


@pytest.mark.parametrize("which", POOLINGS, ids="-".join)
def test_swapping_the_sides_of_a_pair_swaps_its_features_bit_for_bit(trunks: Any, which: tuple[str, str]) -> None:
    pair = [(_ask("Why?"), "Because."), (_ask("Why?"), "Nobody knows.")]
    np.testing.assert_array_equal(trunks[which].features(pair), trunks[which].features(pair[::-1])[::-1])


@pytest.mark.parametrize("which", POOLINGS, ids="-".join)
def test_the_response_matters_to_the_features(trunks: Any, which: tuple[str, str]) -> None:
    first, second = trunks[which].features([(_ask("Why?"), "Because."), (_ask("Why?"), "No idea!")])
    assert np.abs(first - second).max() > 1e-2


@pytest.mark.parametrize("which", POOLINGS, ids="-".join)
def test_no_rows_give_no_features(trunks: Any, which: tuple[str, str]) -> None:
    assert trunks[which].features([]).shape == (0, trunks[which].hidden)


def test_an_encoder_reads_conversation_and_response_as_two_segments(checkpoints: dict[str, Path], trunks: Any) -> None:
    tokenizer = AutoTokenizer.from_pretrained(checkpoints["bert"])
    model = AutoModel.from_pretrained(checkpoints["bert"]).eval()
    inputs = tokenizer("Why?", "Because.", return_tensors="pt", return_token_type_ids=True)
    with torch.no_grad():
        states = model(**inputs).last_hidden_state[0]
    found = {pooling: trunks["bert", pooling].features([ROWS[1]])[0] for _, pooling in POOLINGS[:3]}
    np.testing.assert_allclose(found["mean"], states.mean(0), atol=ROUNDING)
    np.testing.assert_allclose(found["first_token"], states[0], atol=ROUNDING)
    np.testing.assert_allclose(found["response_mean"], states[6:14].mean(0), atol=ROUNDING)


def test_the_last_token_of_the_response_is_what_last_token_means(checkpoints: dict[str, Path], trunks: Any) -> None:
    model = AutoModel.from_pretrained(checkpoints["gpt2"]).eval()
    ids = trunks["gpt2", "last_token"].tokenize(ROWS[1]).ids
    with torch.no_grad():
        states = model(torch.tensor([ids])).last_hidden_state[0]
    np.testing.assert_allclose(trunks["gpt2", "last_token"].features([ROWS[1]])[0], states[-1], atol=ROUNDING)


def test_both_ways_of_running_a_chat_model_agree(checkpoints: dict[str, Path], trunks: Any) -> None:
    own = load_trunk(checkpoints["qwen2"], device="cpu")
    assert isinstance(own, LanguageModelTrunk)
    np.testing.assert_allclose(own.features(ROWS), trunks["qwen2", "response_mean"].features(ROWS), atol=1e-4)


def test_the_model_that_generates_has_the_features_of_its_scorer(checkpoints: dict[str, Path]) -> None:
    own = load_trunk(checkpoints["qwen2"], device="cpu")
    assert isinstance(own, LanguageModelTrunk)
    np.testing.assert_array_equal(own.features(ROWS), pooled_features(own.model, ROWS))


@pytest.mark.parametrize("which", POOLINGS, ids="-".join)
def test_tokens_are_counted_as_they_are_read(trunks: Any, which: tuple[str, str]) -> None:
    assert trunks[which].token_counts(ROWS).tolist() == [len(trunks[which].tokenize(row).ids) for row in ROWS]


def test_both_ways_of_running_a_chat_model_count_the_same_tokens(checkpoints: dict[str, Path], trunks: Any) -> None:
    own = load_trunk(checkpoints["qwen2"], device="cpu")
    assert own.token_counts(ROWS).tolist() == trunks["qwen2", "last_token"].token_counts(ROWS).tolist()


@pytest.mark.parametrize("kind", ["bert", "gpt2"])
def test_special_tokens_that_a_person_writes_stay_plain_text(trunks: Any, kind: str) -> None:
    tokenize = trunks[kind, "response_mean"].tokenize
    row = tokenize((_ask("a[SEP]b"), "c[CLS]d"))
    plain = tokenize((_ask("a[sep]b"), "c[cls]d"))
    assert sum(number < 4 for number in row.ids) == sum(number < 4 for number in plain.ids)


@pytest.mark.parametrize("which", POOLINGS, ids="-".join)
def test_a_row_that_exceeds_the_context_is_refused(trunks: Any, which: tuple[str, str]) -> None:
    with pytest.raises(PromptTooLong):
        trunks[which].features([ROWS[0], (_ask("Why?"), "word " * 60)])


@pytest.mark.parametrize("which", POOLINGS, ids="-".join)
def test_of_a_response_that_is_truncated_the_beginning_counts(trunks: Any, which: tuple[str, str]) -> None:
    trunk, conversation = trunks[which], _ask("Why?")
    room = trunk.context - trunk.prompt_count(conversation)
    text = "Because-nobody-knows." * 12  # a token a character
    found = trunk.features([(conversation, text), ROWS[1]], truncate=True)
    np.testing.assert_allclose(found, trunk.features([(conversation, text[:room]), ROWS[1]]), atol=ROUNDING)


def test_the_model_that_generates_truncates_as_any_trunk(checkpoints: dict[str, Path], trunks: Any) -> None:
    rows: list[Row] = [(_ask("Why?"), "Because-nobody-knows." * 12)]
    own = load_trunk(checkpoints["qwen2"], device="cpu").features(rows, truncate=True)
    np.testing.assert_allclose(own, trunks["qwen2", "response_mean"].features(rows, truncate=True), atol=1e-4)


@pytest.mark.parametrize("which", POOLINGS, ids="-".join)
def test_no_conversation_is_truncated(trunks: Any, which: tuple[str, str]) -> None:
    with pytest.raises(PromptTooLong):
        trunks[which].features([(_ask("word " * 60), "Yes.")], truncate=True)


@pytest.mark.parametrize("which", POOLINGS, ids="-".join)
def test_what_a_prompt_takes_is_the_count_of_its_rows_without_their_response(
    trunks: Any, which: tuple[str, str]
) -> None:
    rows = [row for row in ROWS if row[1]]
    without = trunks[which].token_counts(rows) - [len(text) for _, text in rows]  # a token a character
    assert [trunks[which].prompt_count(conversation) for conversation, _ in rows] == without.tolist()


@pytest.fixture
def roberta(checkpoints: dict[str, Path], tmp_path: Path) -> TransformersTrunk:
    """An encoder with 44 positions, which are numbered from 4 on."""
    shutil.copytree(checkpoints["bert"], tmp_path / "roberta")
    config = RobertaConfig(
        hidden_size=HIDDEN, num_hidden_layers=1, num_attention_heads=2, intermediate_size=24,
        vocab_size=260, max_position_embeddings=44, type_vocab_size=1, pad_token_id=3,
    )  # fmt: skip
    RobertaModel(config).save_pretrained(tmp_path / "roberta")
    return load_transformers_trunk(tmp_path / "roberta", device="cpu")


def test_an_encoder_whose_positions_start_late_reads_as_many_tokens_as_are_left(roberta: TransformersTrunk) -> None:
    row: Row = (_ask("Why?"), "x" * 33)
    assert roberta.token_counts([row]) == roberta.context == 40
    assert np.isfinite(roberta.features([row])).all()


def test_an_encoder_whose_positions_start_late_refuses_one_token_more(roberta: TransformersTrunk) -> None:
    with pytest.raises(PromptTooLong, match="the context holds 40"):
        roberta.features([(_ask("Why?"), "x" * 34)])


@pytest.mark.parametrize("kind", ["bert", "gpt2"])
def test_counting_the_tokens_of_a_long_text_warns_of_nothing(
    checkpoints: dict[str, Path], kind: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger("transformers"), "propagate", True)
    trunk = load_transformers_trunk(checkpoints[kind], device="cpu")  # a tokenizer warns once in its life
    assert trunk.token_counts([(_ask("Why?"), "word " * 60)])[0] > trunk.context
    assert not caplog.records


@pytest.mark.parametrize(("kind", "pooling"), [("gpt2", "first_token"), ("bert", "last_token")])
def test_a_pooling_that_makes_no_sense_is_refused(checkpoints: dict[str, Path], kind: str, pooling: str) -> None:
    with pytest.raises(ArtifactIncompatible, match="use one of response_mean"):
        load_trunk(checkpoints[kind], pooling, device="cpu")


def test_an_encoder_decoder_is_refused(tmp_path: Path) -> None:
    T5Config().save_pretrained(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"")
    with pytest.raises(ArtifactIncompatible, match="encoder-decoder"):
        load_trunk(tmp_path)


def test_a_directory_without_a_model_is_no_trunk(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"safetensors weights in"):
        load_trunk(tmp_path)


def test_a_truncated_checkpoint_is_refused(checkpoints: dict[str, Path], tmp_path: Path) -> None:
    shutil.copytree(checkpoints["bert"], tmp_path / "bert")
    weights = tmp_path / "bert" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:500])
    with pytest.raises(ArtifactError, match="cannot be loaded"):
        load_trunk(tmp_path / "bert")


def test_the_fingerprint_changes_with_the_tokenizer(checkpoints: dict[str, Path], tmp_path: Path) -> None:
    shutil.copytree(checkpoints["gpt2"], tmp_path / "gpt2")
    before = load_trunk(checkpoints["gpt2"], device="cpu").fingerprint
    assert load_trunk(tmp_path / "gpt2", device="cpu").fingerprint == before
    path = tmp_path / "gpt2" / "tokenizer.json"
    path.write_text(path.read_text() + "\n")
    assert load_trunk(tmp_path / "gpt2", device="cpu").fingerprint != before
