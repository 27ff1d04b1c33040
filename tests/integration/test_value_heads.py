"""``attune basis values`` on a tiny model, to heads that belong to its basis."""

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from app.cli import cli
from app.rewards.artifact import load_basis
from app.rewards.values import check_values, load_values
from tests.fakes.tiny_model import write_tiny_basis, write_tiny_model


def run(directory: Path, *options: str) -> Result:
    paths = ["--basis", str(directory / "basis"), "--model", str(directory / "model")]
    sizes = ["--responses", "4", "--max-tokens", "12", "--rank", "3", "--threads", "1"]
    return CliRunner().invoke(cli, ["basis", "values", *paths, *sizes, *options])


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("values")
    write_tiny_basis(directory / "basis", write_tiny_model(directory / "model"))
    (directory / "prompts.txt").write_text("\n".join(f"What of number {number}?" for number in range(40)))
    return directory


@pytest.fixture(scope="module")
def fitted(directory: Path) -> Result:
    return run(directory, "--prompts", str(directory / "prompts.txt"))


def test_the_heads_belong_to_the_basis_and_the_model(directory: Path, fitted: Result) -> None:
    assert fitted.exit_code == 0, fitted.output
    check_values(load_values(directory / "basis/values"), load_basis(directory / "basis"), directory / "model")


def test_every_step_is_reported(fitted: Result) -> None:
    assert "rollouts: 40 of 40" in fitted.stderr
    assert "next tokens: 8 of 8" in fitted.stderr


def test_the_card_has_a_row_for_every_length(directory: Path, fitted: Result) -> None:
    card = (directory / "basis/values/CARD.md").read_text()
    bounds = load_values(directory / "basis/values").bounds
    assert all(f"\n| {bound} | " in card for bound in bounds)
    assert card in fitted.stdout


def test_the_manifest_says_how_they_were_made(directory: Path, fitted: Result) -> None:
    manifest = json.loads((directory / "basis/values/manifest.json").read_text())
    facts = manifest["provenance"]
    assert (manifest["max_tokens"], manifest["rank"], facts["responses"]) == (12, 3, 4)
    assert facts["rollouts"] == 160


def test_the_same_command_gives_the_same_heads(directory: Path, fitted: Result) -> None:
    before = load_values(directory / "basis/values")
    run(directory, "--prompts", str(directory / "prompts.txt"))
    np.testing.assert_array_equal(load_values(directory / "basis/values").action_tokens, before.action_tokens)


def test_prompts_must_come_from_one_place(directory: Path) -> None:
    found = run(directory)
    assert found.exit_code == 2
    assert "--prompts" in found.stderr


def test_too_few_prompts_are_refused(directory: Path) -> None:
    (directory / "few.txt").write_text("One?\nTwo?\n")
    found = run(directory, "--prompts", str(directory / "few.txt"))
    assert found.exit_code != 0
    assert "too few for value heads" in f"{found.output} {found.exception}"
