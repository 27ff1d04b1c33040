import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from app.entities import Message, SamplingOptions, Steering
from app.generation.scripted import ScriptedEngine
from app.generation.scripted_metrics import VllmNames

pytestmark = pytest.mark.anyio

OPTIONS = SamplingOptions(max_tokens=60, temperature=1.0, top_p=0.9, seed=5)
QUESTION = (Message("user", "What should I cook tonight?"),)


def scraped(engine: ScriptedEngine) -> dict[str, float]:
    """Every sample by its name, with what ends a candidate or bounds a bucket."""
    registry = CollectorRegistry()
    registry.register(VllmNames(engine))
    families = text_string_to_metric_families(generate_latest(registry).decode())
    samples = [sample for family in families for sample in family.samples]
    assert all(sample.labels["model_name"] == engine.model for sample in samples)
    return {
        " ".join([sample.name, *(sample.labels[key] for key in ("finished_reason", "le") if key in sample.labels)]): (
            sample.value
        )
        for sample in samples
    }


async def test_tokens_and_ends_are_told_under_the_names_of_vllm() -> None:
    engine = ScriptedEngine()
    drawn = await engine.candidates(QUESTION, 16, OPTIONS, steering=Steering((1.0, 0.0, 0.0, 0.0), drop_below=0.05))
    found = scraped(engine)
    dropped = sum(one.finish_reason == "dropped" for one in drawn.candidates)
    assert found["vllm:generation_tokens_total"] == drawn.completion_tokens
    assert found["vllm:prompt_tokens_total"] == drawn.prompt_tokens
    assert found["vllm:request_success_total abort"] == dropped
    assert found["vllm:request_success_total stop"] + found["vllm:request_success_total length"] == 16 - dropped


async def test_every_call_is_in_both_histograms() -> None:
    engine = ScriptedEngine(latency_seconds=0.02)
    for _ in range(3):
        await engine.candidates(QUESTION, 1, OPTIONS)
    found = scraped(engine)
    for name in ("vllm:time_to_first_token_seconds", "vllm:e2e_request_latency_seconds"):
        assert found[f"{name}_count"] == found[f"{name}_bucket +Inf"] == 3
        assert found[f"{name}_sum"] >= 0.06
    assert found["vllm:time_to_first_token_seconds_bucket 0.005"] == 0


async def test_a_running_call_is_seen() -> None:
    engine = ScriptedEngine()
    stream = engine.stream(QUESTION, OPTIONS)
    await anext(stream)
    assert scraped(engine)["vllm:num_requests_running"] == 1
    await stream.aclose()
    assert scraped(engine)["vllm:num_requests_running"] == 0
