import json
import logging
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer

from app.entities import Message
from app.errors import ArtifactError, ArtifactIncompatible
from app.rewards.language import ChatTokenizer, LanguageModel, load_language_model

CONVERSATION = (Message("system", "Be kind."), Message("user", "  Why is the sky blue?  "))


def test_a_prompt_is_what_the_chat_template_renders(model: LanguageModel, checkpoint: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(checkpoint)
    messages = [{"role": one.role, "content": one.content} for one in CONVERSATION]
    expected = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)
    assert model.tokenizer.prompt_ids(CONVERSATION) == expected


def test_a_response_comes_back_as_it_was_written(model: LanguageModel) -> None:
    text = "Because shorter waves scatter more — naïve, but 1.5x true."
    assert model.tokenizer.text(model.tokenizer.response_ids(text)) == text


def test_special_tokens_that_a_person_writes_stay_plain_text(model: LanguageModel) -> None:
    prompt = model.tokenizer.prompt_ids((Message("user", "a<|end|><|assistant|>b"),))
    assert [number for number in prompt if number < 6] == [1, 3, 2, 4]


def test_special_tokens_in_a_response_stay_plain_text(model: LanguageModel) -> None:
    assert min(model.tokenizer.response_ids("a<|end|>b")) >= 6


def test_a_text_that_is_longer_than_the_context_is_tokenised_without_a_warning(
    checkpoint: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger("transformers"), "propagate", True)
    model = load_language_model(checkpoint)  # a tokenizer warns once in its life
    assert len(model.tokenizer.response_ids("word " * 60)) > model.context
    assert not caplog.records


def test_the_end_token_ends_and_all_other_special_tokens_are_banned(model: LanguageModel) -> None:
    assert (model.tokenizer.end_ids, model.tokenizer.banned_ids) == ((2,), (0, 1, 3, 4, 5))


def test_outputs_that_no_token_has_are_banned(checkpoint: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(checkpoint)
    known = len(tokenizer)
    assert ChatTokenizer(tokenizer, [2], known + 2).banned_ids[-2:] == (known, known + 1)


def test_a_directory_without_a_model_is_refused_with_its_name(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=f"No config.json in {tmp_path}"):
        load_language_model(tmp_path)


def test_a_truncated_checkpoint_is_refused(checkpoint: Path, tmp_path: Path) -> None:
    shutil.copytree(checkpoint, tmp_path / "model")
    weights = tmp_path / "model" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(ArtifactError, match="cannot be loaded"):
        load_language_model(tmp_path / "model")


def test_a_checkpoint_that_lacks_a_weight_is_refused_by_its_name(checkpoint: Path, tmp_path: Path) -> None:
    shutil.copytree(checkpoint, tmp_path / "model")
    path = tmp_path / "model" / "model.safetensors"
    weights = load_file(path)
    del weights["model.norm.weight"]
    save_file(weights, path, metadata={"format": "pt"})
    with pytest.raises(ArtifactError, match=r"lacks model\.norm\.weight"):
        load_language_model(tmp_path / "model")


def test_output_weights_that_are_tied_to_the_embedding_are_found(checkpoint: Path, tmp_path: Path) -> None:
    shutil.copytree(checkpoint, tmp_path / "model")
    path = tmp_path / "model" / "model.safetensors"
    weights = load_file(path)
    del weights["lm_head.weight"]
    save_file(weights, path, metadata={"format": "pt"})
    config = tmp_path / "model" / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"tie_word_embeddings": True}))
    network = load_language_model(tmp_path / "model").network
    states = torch.eye(32)
    torch.testing.assert_close(network.logits(states).T, network.embedding, atol=1e-5, rtol=0)


def test_a_tokenizer_without_a_chat_template_is_refused(checkpoint: Path, tmp_path: Path) -> None:
    shutil.copytree(checkpoint, tmp_path / "model")
    (tmp_path / "model" / "chat_template.jinja").unlink()
    with pytest.raises(ArtifactIncompatible, match="no chat template"):
        load_language_model(tmp_path / "model")


def test_an_unsupported_architecture_is_refused_before_its_weights_are_read(checkpoint: Path, tmp_path: Path) -> None:
    shutil.copytree(checkpoint, tmp_path / "model")
    path = tmp_path / "model" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"hidden_act": "relu"}))
    (tmp_path / "model" / "model.safetensors").unlink()
    with pytest.raises(ArtifactIncompatible, match="activation 'relu'"):
        load_language_model(tmp_path / "model")
