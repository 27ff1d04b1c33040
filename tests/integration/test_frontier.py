"""``attune evaluate frontier`` on a tiny model with an engine, value heads and a basis of its own."""

import json

import pytest
from typer.testing import CliRunner

from app.commands.evaluate import app
from app.errors import InvalidInput
from app.rewards.artifact import load_basis
from app.rewards.values import load_values, save_values, values_directory
from app.training.frontier import run
from app.training.properties import PropertyScale
from tests.fakes.tiny_model import tiny_settings
from tests.fakes.tiny_values import random_values

TEXTS = ["A plain sentence.", "Do you like it? I do!", "- one\n- two\n- three", "Perhaps it might be 3 or 4 degrees."]
ARRAYS = ("bounds", "weight", "offset", "errors", "action_states", "action_offset", "action_tokens")
PROMPTS = ["How are you?", "What is that?", "Why not?", "Where to?"]
SMALL = ["--people", "2", "--distinct", "3", "--each", "2", "--questions", "2", "--max-tokens", "16"]


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    directory = tmp_path_factory.mktemp("world")
    assert tiny_settings(directory)
    write_values(directory)
    manifest = json.loads((directory / "basis/manifest.json").read_text())
    manifest["provenance"]["property_scale"] = PropertyScale.of(TEXTS).dump()
    (directory / "basis/manifest.json").write_text(json.dumps(manifest))
    return directory


def write_values(directory):
    heads = random_values()
    given = {name: getattr(heads, name) for name in ARRAYS}
    save_values(
        directory / "basis/values",
        artifact=load_basis(directory / "basis"),
        model_directory=directory / "model",
        **given,
        scale=heads.scale,
        max_tokens=128,
        provenance={},
    )


def frontier(world, *arguments):
    places = [word for name in ("model", "basis", "pool") for word in (f"--{name}", str(world / name))]
    only = ["--only", "token-level, strength 1$|dropped below 0.05|2 continuations"]
    done = CliRunner().invoke(app, ["frontier", *places, *SMALL, *only, *arguments], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


def test_the_command_writes_a_table_figures_and_a_plot(world, tmp_path):
    out = tmp_path / "frontier.json"
    table = frontier(world, "--json", str(out), "--plots", str(tmp_path))
    figures = json.loads(out.read_text())
    assert "| token-level, strength 1 |" in table
    assert {"off", "best of 16", "block-wise, 2 continuations"} <= set(figures["rows"])
    assert figures["left_out"] == {}
    assert (tmp_path / "frontier.png").exists()


def test_points_are_recorded_from_training_prompts(world, tmp_path, monkeypatch):
    monkeypatch.setattr(run, "training_prompts", lambda data, basis: PROMPTS)
    before = load_values(values_directory(world / "basis")).manifest["version"]
    frontier(world, "--record", "--prompts", "training", "--data", str(tmp_path))
    heads = load_values(values_directory(world / "basis"))
    assert heads.manifest["version"] == before
    assert {"off", "best of 16", "token-level, strength 1"} <= {point.name for point in heads.frontier}


def test_points_are_not_taken_from_held_out_prompts(world):
    with pytest.raises(InvalidInput, match="training prompts alone"):
        frontier(world, "--record")


def test_other_prompts_are_refused(world):
    with pytest.raises(InvalidInput, match="'held-out', or 'training'"):
        frontier(world, "--prompts", "mine")
