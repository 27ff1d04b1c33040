"""The device benchmark on the processor, with a tiny model."""

import json

import pytest
import torch

from benchmarks import gpu
from benchmarks.device.random_model import PRESETS, random_model
from benchmarks.device.static_step import DecodingStep, StaticMemory

SMALL = ["--preset", "tiny", "--device", "cpu", "--prompt", "12", "--tokens", "6", "--rows", "1,4", "--rounds", "1"]


@pytest.fixture(scope="module")
def model():
    return random_model(PRESETS["tiny"], 64, torch.device("cpu"), torch.float32)


def test_it_runs_on_a_processor_and_says_where_and_when(tmp_path):
    out = tmp_path / "gpu.json"
    gpu.main([*SMALL, "--json", str(out)])
    written = json.loads(out.read_text())
    assert written["benchmark"] == "gpu"
    assert {"device", "date", "torch"} <= set(written["machine"])
    assert {"share_of_bound_eager_1", "reading_rewards_eager_4"} <= set(written["ratios"])


def test_graphs_without_a_gpu_are_refused():
    with pytest.raises(SystemExit):
        gpu.parse([*SMALL, "--graphs"])


def test_weights_of_the_presets_are_as_many_as_their_names_say():
    assert {name: round(size.parameters / 1e9) for name, size in PRESETS.items()} == {
        "tiny": 0,
        "1b": 1,
        "3b": 3,
        "8b": 8,
    }


@torch.inference_mode()
def test_a_static_step_equals_a_growing_memory(model):
    prompt = torch.randint(0, 512, (1, 9), generator=torch.Generator().manual_seed(0))
    tokens = torch.randint(0, 512, (5, 4), generator=torch.Generator().manual_seed(1))
    prefix, _ = model.network.prefill(prompt)
    step = DecodingStep(model.network, StaticMemory(prefix, 4, 8), torch.ones(2, 64))
    cache = model.network.new_cache(4, 8)
    for row in tokens:
        expected = model.network.forward(row[:, None], cache, prefix)[:, 0]
        logits, rewards = step(row)
        torch.testing.assert_close(logits, model.network.logits(expected), atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(rewards, expected @ torch.ones(64, 2), atol=1e-5, rtol=1e-5)


def test_the_bound_counts_weights_once_and_every_rows_own_tokens():
    size = PRESETS["tiny"]
    bench = gpu.Bench(size, gpu.Device("cpu"), torch.float32, gpu.parse(SMALL))
    more = bench.bound(4, 1.0) - bench.bound(1, 1.0)
    assert bench.bound(1, 1.0) > 4 * size.parameters
    assert more == pytest.approx(3 * 3 * 2 * size.layers * size.key_heads * size.head_size * 4)
