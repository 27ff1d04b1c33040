from pathlib import Path

import numpy as np
import pytest
import torch

from app.entities import Message
from app.errors import InvalidInput
from app.rewards.trunk_transformers import load_trunk
from app.training.dataset import ComparisonData, RawComparison
from app.training.lora import LoraOptions, tune_trunk
from tests.fakes.tiny_trunks import write_tiny_trunk

OPTIONS = LoraOptions(rank=2, layers=1, directions=2, epochs=4, batch=8, learning_rate=3e-3)
POOLINGS = {"bert": "mean", "gpt2": "response_mean", "qwen2": "response_mean"}


@pytest.fixture(scope="module")
def data() -> ComparisonData:
    """Two people, of whom one prefers shouting and the other does not."""
    rng = np.random.default_rng(0)
    rows = []
    for number in range(48):
        words = " ".join(rng.choice(["yes", "no", "maybe"], 2))
        choice = "first" if number % 2 else "second"
        rows.append(RawComparison(f"u{number % 2}", (Message("user", "Hi?"),), words.upper() + "!", words, choice))
    return ComparisonData.of(rows)


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    torch.set_num_threads(1)
    return {kind: write_tiny_trunk(tmp_path_factory.mktemp(kind), kind) for kind in POOLINGS}


def tuned(checkpoint: Path, data: ComparisonData, out: Path, options: LoraOptions = OPTIONS, seed: int = 1):
    kind = next(kind for kind in POOLINGS if kind in checkpoint.name)
    return tune_trunk(checkpoint, data, out, pooling=POOLINGS[kind], options=options, seed=seed, device="cpu")


@pytest.mark.parametrize("kind", POOLINGS)
def test_the_loss_falls(checkpoints, data, tmp_path, kind):
    losses = tuned(checkpoints[kind], data, tmp_path)
    assert losses[-1] < 0.8 * losses[0]


@pytest.mark.parametrize("kind", POOLINGS)
def test_the_merged_checkpoint_has_the_features_of_the_adapters(checkpoints, data, tmp_path, monkeypatch, kind):
    seen = {}

    def remember(trunk, *arguments):
        losses = train(trunk, *arguments)
        seen["features"] = trunk.features(data.rows)
        return losses

    from app.training import lora

    train = lora._train
    monkeypatch.setattr(lora, "_train", remember)
    tuned(checkpoints[kind], data, tmp_path)
    merged = load_trunk(tmp_path, POOLINGS[kind], device="cpu")
    np.testing.assert_allclose(merged.features(data.rows), seen["features"], atol=1e-4)  # fp32, merged weights


def test_tuning_changes_the_features(checkpoints, data, tmp_path):
    tuned(checkpoints["bert"], data, tmp_path)
    before, after = (
        load_trunk(one, "mean", device="cpu").features(data.rows) for one in (checkpoints["bert"], tmp_path)
    )
    assert np.abs(before - after).max() > 1e-2


def test_the_checkpoint_that_was_tuned_stays_as_it_was(checkpoints, data, tmp_path):
    before = load_trunk(checkpoints["bert"], "mean", device="cpu").fingerprint
    tuned(checkpoints["bert"], data, tmp_path)
    assert load_trunk(checkpoints["bert"], "mean", device="cpu").fingerprint == before


def test_the_same_seed_gives_the_same_checkpoint(checkpoints, data, tmp_path):
    short = LoraOptions(rank=2, layers=1, directions=2, epochs=1, batch=24)
    for name in ("one", "two"):
        tuned(checkpoints["bert"], data, tmp_path / name, short)
    one, two = (load_trunk(tmp_path / name, "mean", device="cpu").fingerprint for name in ("one", "two"))
    assert one == two


def test_only_the_last_layers_change(checkpoints, data, tmp_path):
    from safetensors.torch import load_file

    tuned(checkpoints["bert"], data, tmp_path)
    before, after = (load_file(one / "model.safetensors") for one in (checkpoints["bert"], tmp_path))
    changed = {name for name in after if not torch.equal(before[name], after[name])}
    assert changed
    assert all("layer.1." in name for name in changed)


def test_comparisons_of_a_text_with_itself_are_nothing_to_learn_from(checkpoints, tmp_path):
    same = ComparisonData.of([RawComparison("u", (Message("user", "Hi?"),), "Yes.", "Yes.", "tie")])
    with pytest.raises(InvalidInput, match="two different texts"):
        tuned(checkpoints["bert"], same, tmp_path)
