"""One request decoded alone, by the same loop that serves many: for training data, benchmarks and tests."""

from collections.abc import Callable

from app.entities import Candidate, SamplingOptions, Steering
from app.generation.batch.drawing import Drawing
from app.generation.batch.guided import Guide
from app.generation.batch.heads import Heads
from app.generation.batch.scheduler import OnStates, Scheduler
from app.rewards.language import LanguageModel

__all__ = ["Heads", "decode"]


def decode(
    model: LanguageModel,
    heads: Heads,
    prompt_ids: list[int],
    n: int,
    options: SamplingOptions,
    *,
    check: Callable[[], None],
    steering: Steering | None = None,
    guide: Guide | None = None,
    on_states: OnStates | None = None,
) -> list[Candidate]:
    """Draw ``n`` candidates that continue ``prompt_ids``.

    No candidate is empty unless a stop string begins it, and none contains a special token. A candidate that ends at
    a stop string is cut before it, and its rewards are averaged over the tokens that the kept text needs.

    Args:
        model: The language model; used by this thread alone.
        heads: Basis reward heads.
        prompt_ids: The rendered conversation; with ``options.max_tokens`` it must fit into the context.
        n: Number of candidates, at least 1.
        options: How to sample. At temperature 0 all candidates are the same one.
        check: Called before every step; whatever it raises ends the decoding.
        steering: How a person's reward acts; needs ``guide``.
        guide: Value heads.
        on_states: Called after every step with the numbers of the candidates that were given a token (a list), and the
            states (rows, hidden) of these tokens, row by row; for training value heads. The states are overwritten by
            nobody, and those of a token that ended a candidate at a stop string are among them.

    Raises:
        NonFiniteReward: If the network yields values that are not finite.
    """
    width = steering.continuations if steering is not None and steering.guidance == "block" else 1
    scheduler = Scheduler(model, heads, guide=guide, max_rows=n * width, on_states=on_states)
    drawing = Drawing(prompt_ids, n, options, model.tokenizer, steering=steering, guide=guide)
    scheduler.start(drawing)
    while not drawing.finished:
        check()
        scheduler.step()
    return drawing.candidates()
