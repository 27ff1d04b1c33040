"""The client of the vLLM side, against small programs that answer as it does."""

import sys

import pytest

from benchmarks.decode import vllm_client
from benchmarks.decode.turns import Taken
from benchmarks.decode.vllm_client import VllmMissing, VllmSide

ANSWERING = """
import json, sys
print("a line of somebody's log")
print(json.dumps({"ready": True}), flush=True)
for line in sys.stdin:
    asked = json.loads(line)
    print(json.dumps({"seconds": 2.0, "cpu_seconds": 3.0, "tokens": asked["n"] * asked["tokens"]}), flush=True)
"""
FAILING = "import sys; sys.exit('no such processor')"


@pytest.fixture
def side(tmp_path, monkeypatch):
    opened = []

    def start(program):
        (tmp_path / "side.py").write_text(program)
        monkeypatch.setattr(vllm_client, "PROGRAM", tmp_path / "side.py")
        monkeypatch.setattr(vllm_client, "PYTHON", vllm_client.Path(sys.executable))
        opened.append(VllmSide(tmp_path, tmp_path, dtype="float32", log=tmp_path / "log"))
        return opened[-1]

    yield start
    for one in opened:
        one.close()


def test_a_turn_passes_on_what_the_other_side_took(side):
    assert side(ANSWERING).turn("rewards", [1, 2], 4, 8) == Taken(3.0, 2.0, 32)


def test_a_side_that_ends_is_missing_and_its_last_words_tell_why(side):
    with pytest.raises(VllmMissing, match="no such processor"):
        side(FAILING).turn("rewards", [1, 2], 4, 8)


def test_an_environment_that_was_never_made_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(vllm_client, "PYTHON", tmp_path / "nowhere")
    with pytest.raises(VllmMissing, match="nowhere is missing"):
        VllmSide(tmp_path, tmp_path, dtype="float32", log=tmp_path / "log")
