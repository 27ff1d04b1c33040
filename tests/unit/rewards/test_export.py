import json
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from app.errors import ArtifactError, ArtifactIncompatible
from app.rewards.artifact import BasisArtifact, model_sha256
from app.rewards.export import check_export, export_checkpoint, read_description
from app.rewards.values import ValueHeads
from tests.fakes.tiny_model import CONTEXT, write_tiny_basis, write_tiny_model

SIZE, HIDDEN = 3, 32


@pytest.fixture(scope="module", params=["llama", "qwen2"])
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    return write_tiny_model(tmp_path_factory.mktemp(request.param), request.param)


@pytest.fixture(scope="module")
def basis(model: Path, tmp_path_factory: pytest.TempPathFactory) -> BasisArtifact:
    return write_tiny_basis(tmp_path_factory.mktemp("basis"), model, SIZE)


def _values(vocabulary: int) -> ValueHeads:
    rng = np.random.default_rng(2)
    return ValueHeads(
        bounds=np.array([1, 5]),
        weight=rng.standard_normal((2, SIZE, 2 * HIDDEN)).astype(np.float32),
        offset=rng.standard_normal((2, SIZE)).astype(np.float32),
        errors=np.stack([np.eye(SIZE)] * 2),
        action_states=rng.standard_normal((SIZE, 4, HIDDEN)).astype(np.float32),
        action_offset=rng.standard_normal((SIZE, 4)).astype(np.float32),
        action_tokens=rng.standard_normal((vocabulary, 4)).astype(np.float32),
        scale=0.7,
        frontier=(),
        manifest={"version": "some"},
    )


def _logits(directory: Path, ids: list[int]) -> tuple[np.ndarray, np.ndarray]:
    """Logits and last hidden states (tokens, …)."""
    model = AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32).eval()
    with torch.inference_mode():
        states = model.model(torch.tensor([ids])).last_hidden_state[0]
        return model.lm_head(states).numpy(), states.numpy()


IDS = [1, 3, 20, 21, 22, 4, 40, 41]


def test_the_models_own_logits_stay_as_they_are(model: Path, basis: BasisArtifact, tmp_path: Path) -> None:
    found = export_checkpoint(model, basis, tmp_path / "out")
    assert np.array_equal(_logits(found.directory, IDS)[0][:, : found.rows.first], _logits(model, IDS)[0])


def test_the_rows_after_the_vocabulary_are_the_basis_rewards(model: Path, basis: BasisArtifact, tmp_path: Path) -> None:
    found = export_checkpoint(model, basis, tmp_path / "out")
    logits, states = _logits(found.directory, IDS)
    read = logits[:, found.rows.first : found.rows.zero] - logits[:, [found.rows.zero]]
    assert np.allclose(read, states @ basis.heads.T, atol=1e-5)


def test_log_probabilities_give_the_rewards_as_documented(model: Path, basis: BasisArtifact, tmp_path: Path) -> None:
    found = export_checkpoint(model, basis, tmp_path / "out")
    logits, states = _logits(found.directory, IDS)
    scores = torch.log_softmax(torch.tensor(logits), dim=-1).numpy()
    read = scores[:, found.rows.first : found.rows.zero] - scores[:, [found.rows.zero]] + np.array(found.offset)
    assert np.allclose(read, states @ basis.heads.T + basis.offset, atol=1e-4)


def test_value_heads_follow_in_the_documented_order(model: Path, basis: BasisArtifact, tmp_path: Path) -> None:
    values = _values(len(_logits(model, IDS)[0][0]))
    found = export_checkpoint(model, basis, tmp_path / "out", values=values)
    logits, states = _logits(found.directory, IDS)
    of_bucket = [values.weight[b][:, half] for b in range(2) for half in (slice(HIDDEN), slice(HIDDEN, None))]
    assert np.allclose(
        logits[:, found.rows.values : found.rows.actions], states @ np.concatenate(of_bucket).T, atol=1e-4
    )
    assert np.allclose(
        logits[:, found.rows.actions : found.rows.end], states @ values.action_states.reshape(-1, HIDDEN).T, atol=1e-4
    )


def test_tied_embeddings_are_untied(tmp_path: Path) -> None:
    tied = write_tiny_model(tmp_path / "model", tie_word_embeddings=True)
    basis = write_tiny_basis(tmp_path / "basis", tied, SIZE)
    found = export_checkpoint(tied, basis, tmp_path / "out")
    assert np.array_equal(_logits(found.directory, IDS)[0][:, : found.rows.first], _logits(tied, IDS)[0])


def test_a_sharded_checkpoint_is_exported_shard_by_shard(model: Path, basis: BasisArtifact, tmp_path: Path) -> None:
    AutoModelForCausalLM.from_pretrained(model).save_pretrained(tmp_path / "sharded", max_shard_size="40KB")
    for path in model.glob("*"):
        if path.suffix in (".json", ".jinja") and not (tmp_path / "sharded" / path.name).exists():
            (tmp_path / "sharded" / path.name).write_bytes(path.read_bytes())
    assert len(list((tmp_path / "sharded").glob("*.safetensors"))) > 1
    basis = write_tiny_basis(tmp_path / "basis", tmp_path / "sharded", SIZE)
    found = export_checkpoint(tmp_path / "sharded", basis, tmp_path / "out")
    assert np.array_equal(_logits(found.directory, IDS)[0][:, : found.rows.first], _logits(model, IDS)[0])


def test_the_context_has_room_for_the_one_token_that_is_not_used(
    model: Path, basis: BasisArtifact, tmp_path: Path
) -> None:
    found = export_checkpoint(model, basis, tmp_path / "out")
    config = json.loads((found.directory / "config.json").read_text())
    assert (found.context, config["max_position_embeddings"]) == (CONTEXT, CONTEXT + 1)


def test_the_description_reads_back_as_written(model: Path, basis: BasisArtifact, tmp_path: Path) -> None:
    found = export_checkpoint(model, basis, tmp_path / "out", values=_values(len(_logits(model, IDS)[0][0])))
    assert read_description(tmp_path / "out") == found


def test_an_export_fits_the_basis_that_it_was_made_from(model: Path, basis: BasisArtifact, tmp_path: Path) -> None:
    check_export(export_checkpoint(model, basis, tmp_path / "out"), basis)


def test_another_basis_is_refused(model: Path, basis: BasisArtifact, tmp_path: Path) -> None:
    found = export_checkpoint(model, basis, tmp_path / "out")
    other = write_tiny_basis(tmp_path / "other", model, SIZE + 1)
    with pytest.raises(ArtifactIncompatible, match="basis"):
        check_export(found, other)


def test_an_export_without_the_value_heads_is_refused(model: Path, basis: BasisArtifact, tmp_path: Path) -> None:
    found = export_checkpoint(model, basis, tmp_path / "out")
    with pytest.raises(ArtifactIncompatible, match="value heads"):
        check_export(found, basis, _values(4))


def test_a_changed_tokenizer_is_refused(model: Path, basis: BasisArtifact, tmp_path: Path) -> None:
    found = export_checkpoint(model, basis, tmp_path / "out")
    path = found.directory / "tokenizer.json"
    path.write_text(path.read_text().replace("<|user|>", "<|used|>"))
    with pytest.raises(ArtifactIncompatible, match="tokenizer"):
        check_export(found, basis)


def test_changed_weights_are_refused(model: Path, basis: BasisArtifact, tmp_path: Path) -> None:
    found = export_checkpoint(model, basis, tmp_path / "out")
    path = found.directory / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"\x01")
    with pytest.raises(ArtifactError, match="SHA-256"):
        check_export(found, basis)


def test_other_weights_than_the_basis_was_made_for_are_refused(basis: BasisArtifact, tmp_path: Path) -> None:
    other = write_tiny_model(tmp_path / "other", seed=123)
    with pytest.raises(ArtifactIncompatible):
        export_checkpoint(other, basis, tmp_path / "out")


def test_a_basis_with_a_trunk_of_its_own_is_refused(model: Path, tmp_path: Path) -> None:
    basis = write_tiny_basis(tmp_path / "basis", model, SIZE, trunk=model)
    with pytest.raises(ArtifactIncompatible, match="trunk"):
        export_checkpoint(model, basis, tmp_path / "out")


def test_a_directory_with_something_else_is_not_overwritten(model: Path, basis: BasisArtifact, tmp_path: Path) -> None:
    (tmp_path / "letter.txt").write_text("dear")
    with pytest.raises(ArtifactError, match="not empty"):
        export_checkpoint(model, basis, tmp_path)
    assert (tmp_path / "letter.txt").read_text() == "dear"


def test_an_earlier_export_is_replaced(model: Path, basis: BasisArtifact, tmp_path: Path) -> None:
    export_checkpoint(model, basis, tmp_path / "out", values=_values(len(_logits(model, IDS)[0][0])))
    export_checkpoint(model, basis, tmp_path / "out")
    assert not (tmp_path / "out" / "attune").exists()


def test_the_source_is_left_alone(model: Path, basis: BasisArtifact, tmp_path: Path) -> None:
    before = model_sha256(model)
    export_checkpoint(model, basis, tmp_path / "out")
    with pytest.raises(ArtifactError, match="model itself"):
        export_checkpoint(model, basis, model)
    assert model_sha256(model) == before


def test_a_missing_description_names_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="attune engine export"):
        read_description(tmp_path)
