"""``attune basis fit`` from a file of comparisons to an engine that serves what was learned."""

import asyncio
import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from app.cli import cli
from app.entities import Message, SamplingOptions
from app.errors import InvalidInput
from app.generation.transformers_engine import TransformersEngine
from app.rewards.artifact import load_basis
from app.rewards.scorer import basis_rewards
from app.rewards.trunk_transformers import load_trunk
from app.rewards.values import check_values, load_values
from tests.fakes.tiny_model import write_tiny_model
from tests.fakes.tiny_trunks import write_tiny_trunk

WORDS = "soup rice tea bread fish".split()


def comparison(rng: np.random.Generator, person: int) -> dict[str, str]:
    """Half of the people like exclamations, the others do not."""
    first, second = (" ".join(rng.choice(WORDS, rng.integers(1, 5))) + end for end in "!.")
    likes = rng.random() < (0.9 if person % 2 else 0.2)
    if rng.random() < 0.5:
        first, second, likes = second, first, not likes
    prompt = f"What about {rng.choice(WORDS)} number {rng.integers(12)}?"
    preferred = "first" if likes else "second"
    return {"user_id": f"u{person}", "prompt": prompt, "first": first, "second": second, "preferred": preferred}


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("fit")
    rng = np.random.default_rng(2)
    rows = [json.dumps(comparison(rng, person)) for person in range(24) for _ in range(20)]
    (directory / "comparisons.jsonl").write_text("\n".join([*rows, "{broken"]))
    write_tiny_model(directory / "model")
    write_tiny_trunk(directory / "bert", "bert")
    return directory


def fit(directory: Path, *options: str) -> Result:
    named = {"data": "comparisons.jsonl", "out": "basis", "model": "model", "cache": "cache"}
    paths = [part for name, value in named.items() for part in (f"--{name}", str(directory / value))]
    return CliRunner().invoke(cli, ["basis", "fit", *paths, "--rank", "2", "--threads", "1", *options])


@pytest.fixture(scope="module")
def fitted(directory: Path) -> Result:
    return fit(directory, "--trunk", str(directory / "bert"), "--lora-rank", "2", "--skip-invalid", "--value-heads")


def test_what_was_skipped_and_what_was_read_is_reported(fitted: Result) -> None:
    assert fitted.exit_code == 0, fitted.output
    assert "line 481: not JSON" in fitted.stderr
    assert "480 comparisons by 24 people" in fitted.stderr


def test_every_step_is_a_line(fitted: Result) -> None:
    steps = [line.split(":")[0] for line in fitted.stderr.splitlines() if line.endswith(" s")]
    assert steps == ["tuning", "features", "fit", "rollouts", "next tokens", "scales"]


def test_the_engine_serves_what_was_learned(directory: Path, fitted: Result) -> None:
    artifact = load_basis(directory / "basis")
    question = (Message("user", "What about tea?"),)

    async def drawn() -> list[tuple[str, np.ndarray]]:
        engine = TransformersEngine(directory / "model", artifact, threads=1)
        await engine.start()
        options = SamplingOptions(max_tokens=8, temperature=1.0, top_p=0.9, seed=1)
        found = (await engine.candidates(question, 3, options)).candidates
        await engine.close()
        return [(one.text, one.basis_rewards) for one in found]

    texts, rewards = zip(*asyncio.run(drawn()), strict=True)
    assert artifact.trunk is not None
    trunk = load_trunk(artifact.trunk, artifact.pooling)
    expected = basis_rewards(trunk, artifact, [(question, text) for text in texts])
    np.testing.assert_allclose(rewards, expected, atol=1e-4)  # fp32 rounding


def test_value_heads_are_about_the_rewards_of_the_basis_own_trunk(directory: Path, fitted: Result) -> None:
    artifact = load_basis(directory / "basis")
    check_values(load_values(directory / "basis/values"), artifact, directory / "model")
    assert artifact.trunk is not None


def test_a_malformed_line_stops_the_fit_before_anything_is_learned(directory: Path) -> None:
    with pytest.raises(InvalidInput, match="line 481: not JSON"):
        raise fit(directory, "--out", str(directory / "other")).exception or AssertionError("it did not stop")
    assert not (directory / "other").exists()


def test_comparisons_in_which_nobody_preferred_anything_are_refused(directory: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    rows = [{**comparison(rng, person), "preferred": "tie"} for person in range(12) for _ in range(6)]
    ties = tmp_path / "ties.jsonl"
    ties.write_text("\n".join(map(json.dumps, rows)))
    result = fit(directory, "--data", str(ties))
    assert isinstance(result.exception, InvalidInput)
    assert "Nobody preferred anything" in result.exception.message


def test_a_rank_of_the_uniform_method_is_a_usage_error(directory: Path) -> None:
    result = fit(directory, "--method", "uniform")
    assert result.exit_code == 2
    assert "--rank" in result.stderr
