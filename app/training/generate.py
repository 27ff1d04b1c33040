"""The model's own responses to many prompts, for training data, pools and model cards."""

from collections.abc import Callable, Iterator, Sequence

from app.entities import Candidate, Conversation, SamplingOptions
from app.generation.batch.decoding import Heads, decode
from app.rewards.language import LanguageModel


def generate(
    model: LanguageModel,
    prompts: Sequence[Conversation],
    n: int,
    *,
    max_tokens: int = 96,
    temperatures: Sequence[float] = (0.8,),
    seed: int = 0,
    progress: Callable[[], None] = lambda: None,
) -> Iterator[tuple[Candidate, ...]]:
    """Draw ``n`` responses to each prompt; prompts take the ``temperatures`` in turn.

    Yields:
        One tuple a prompt, in order; prompts that do not fit into the context give an empty tuple.
    """
    heads = Heads.none(model)
    for number, prompt in enumerate(prompts):
        ids = model.tokenizer.prompt_ids(prompt)
        temperature = temperatures[number % len(temperatures)]
        options = SamplingOptions(max_tokens, temperature, top_p=0.95, seed=seed + number)
        fits = len(ids) + max_tokens <= model.context
        yield tuple(decode(model, heads, ids, n, options, check=lambda: None)) if fits else ()
        progress()
