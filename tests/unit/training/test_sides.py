"""Nothing but its words may tell a preferred text from a rejected one: not its side, its type or its rendering."""

import json
from pathlib import Path

import numpy as np
import pytest

from app.rewards.trunk import Trunk
from app.rewards.trunk_transformers import load_trunk
from app.training.comparison_file import read_comparisons
from app.training.dataset import ComparisonData
from app.training.features import compute_features
from tests.fakes.tiny_trunks import write_tiny_trunk

WORDS = "soup rice tea bread fish cake salt milk plum corn".split()


@pytest.fixture(scope="module", params=["qwen2", "bert", "gpt2"])
def trunk(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Trunk:
    return load_trunk(write_tiny_trunk(tmp_path_factory.mktemp(request.param), request.param), device="cpu")


def comparisons(count: int, *, marked: bool = False) -> list[dict[str, str]]:
    """Texts of which a coin decides the preferred one; ``marked`` lets the rejected one show it, as a leak would."""
    rng = np.random.default_rng(4)
    rows = []
    for number in range(count):
        first, second = (" ".join(rng.choice(WORDS, 3)) for _ in range(2))
        preferred = str(rng.choice(["first", "second"]))
        if marked:
            first, second = (f"['{first}']", second) if preferred == "second" else (first, f"['{second}']")
        row = {"user_id": f"u{number % 5}", "prompt": f"What about {rng.choice(WORDS)}?"}
        rows.append({**row, "first": first, "second": second, "preferred": preferred})
    return rows


def swapped(row: dict[str, str]) -> dict[str, str]:
    preferred = "second" if row["preferred"] == "first" else "first"
    return {**row, "first": row["second"], "second": row["first"], "preferred": preferred}


def read(path: Path, rows: list[dict[str, str]]) -> ComparisonData:
    path.write_text("\n".join(map(json.dumps, rows)))
    return read_comparisons(path)


def area_under_curve(scores: np.ndarray, positive: np.ndarray) -> float:
    return float((scores[positive][:, None] > scores[~positive][None]).mean())


def held_out_auc(trunk: Trunk, data: ComparisonData) -> float:
    """AUC of a ridge regression of the choice on feature differences, on the second half of the comparisons."""
    features = compute_features(trunk, data.rows).astype(np.float64)
    differences, labels = features[data.first] - features[data.second], 2.0 * data.labels - 1.0
    half = len(data) // 2
    learned, moments = differences[:half], differences[:half].T @ differences[:half]
    penalty = 0.01 * np.trace(moments) / len(moments) * np.eye(len(moments))
    direction = np.linalg.solve(moments + penalty, learned.T @ labels[:half])
    return area_under_curve(differences[half:] @ direction, labels[half:] > 0)


def test_swapping_sides_leaves_every_text_the_same_features_bit_for_bit(trunk: Trunk, tmp_path: Path) -> None:
    rows = comparisons(40)
    one = read(tmp_path / "one.jsonl", rows)
    other = read(tmp_path / "other.jsonl", [swapped(row) if number % 2 else row for number, row in enumerate(rows)])
    features, others = compute_features(trunk, one.rows), compute_features(trunk, other.rows)
    turned = np.arange(40) % 2 == 1
    np.testing.assert_array_equal(features[one.first], others[np.where(turned, other.second, other.first)])
    np.testing.assert_array_equal(one.labels, np.where(turned, 1.0 - other.labels, other.labels))


def test_nothing_predicts_what_a_coin_decided(trunk: Trunk, tmp_path: Path) -> None:
    # the standard deviation of the area is .04 with 100 choices of each kind
    assert abs(held_out_auc(trunk, read(tmp_path / "coin.jsonl", comparisons(400))) - 0.5) < 0.12


def test_a_mark_on_rejected_texts_would_have_been_noticed(trunk: Trunk, tmp_path: Path) -> None:
    assert held_out_auc(trunk, read(tmp_path / "leak.jsonl", comparisons(400, marked=True))) > 0.9
