import subprocess
import sys

import pytest

from app.engines import scripted_basis
from app.entities import Message, SamplingOptions
from app.errors import NonFiniteReward
from app.generation.scripted import ScriptedEngine

pytestmark = pytest.mark.anyio

OPTIONS = SamplingOptions(max_tokens=20, temperature=1.0, top_p=0.9, seed=5)
QUESTION = (Message("user", "What should I cook tonight?"),)


async def test_a_scripted_failure_is_raised_once() -> None:
    engine = ScriptedEngine()
    engine.fail_next(NonFiniteReward("as scripted"))
    with pytest.raises(NonFiniteReward):
        await engine.candidates(QUESTION, 1, OPTIONS)
    assert (await engine.candidates(QUESTION, 1, OPTIONS)).candidates


async def test_its_size_is_the_number_of_basis_rewards() -> None:
    assert (await ScriptedEngine(size=7).basis_rewards(QUESTION, ["Soup."])).shape == (1, 7)


async def test_texts_differ_in_length() -> None:
    drawn = await ScriptedEngine().candidates(QUESTION, 16, SamplingOptions(100, 1.0, 1.0, 3))
    assert len({one.tokens for one in drawn.candidates}) > 5


async def test_lone_surrogates_in_a_response_are_scored_like_any_text() -> None:
    assert (await ScriptedEngine().basis_rewards(QUESTION, ["\ud800"])).shape == (1, 4)


def test_it_needs_no_torch() -> None:
    code = "import sys, app.generation.scripted; sys.exit('torch' in sys.modules or 'transformers' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


async def test_a_basis_can_be_made_for_an_engine_that_always_fails() -> None:
    failing = ScriptedEngine(failures=1.0, basis_version="told")
    assert (await scripted_basis(failing)).pool.basis_version == "told"
