"""The bundled model's card: data, tokens seen, held-out scores, repetition, unedited samples."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from app.entities import Message
from app.rewards.language import LanguageModel, load_language_model
from app.training.generate import generate
from app.training.language.export import repetition

SAMPLE_PROMPTS = (
    "How can I sleep better?",
    "What is a good breakfast before a long walk?",
    "Explain why the sky is blue.",
    "Give me three ideas for a rainy weekend.",
    "How do I make a good cup of coffee?",
    "Write a short thank-you note to a neighbour.",
    "What should I know before I adopt a cat?",
    "Why do people like music?",
)
MEASURED_PROMPTS = 40


TEMPLATE = """\
# Model card: attune-small

A small chat model in the Llama architecture, trained from scratch by this project so that attune runs
without a model hub. It writes short plain English; it knows few facts and gets many wrong. Do not rely
on what it says.

- Parameters: {millions:.1f} M ({layers} layers, hidden {hidden}, {heads} heads of 64, vocabulary
  {vocabulary}, context {context}).
- Tokens seen: {seen:.1f} M; distinct text: {characters:.1f} M characters. Sources and licences: `NOTICE`.
- Recipe: `attune model train`; `app/training/language/pretrain.py` explains its two stages. In the second
  one an auxiliary loss asks that ten measurable properties of a response be a linear function of its mean
  hidden state, which basis reward heads profit from.
- Documents by source: {documents}.

## Held-out text

| domain | conversations | nats a token | bits a byte |
|---|---|---|---|
{held_out}

## Repetition

Over {drawn} responses to {prompts} held-out prompts (temperature 0.8, top-p 0.95, at most 128 tokens):
{repeated:.1%} of word 4-grams repeat within a text, {loops:.1%} of the texts contain a 4-gram four times
or more, {distinct:.1%} are distinct, {finished:.0%} end by themselves.

## Unedited samples (temperature 0.8, seed 1, two each)

{samples}
"""


def write_card(directory: Path, held_out_prompts: Path | None = None) -> None:
    """Write ``CARD.md`` from ``training.json`` and from what the checkpoint generates now.

    Args:
        directory: The checkpoint.
        held_out_prompts: One prompt a line, for the repetition measures; the bundled ones if None.
    """
    facts = json.loads((directory / "training.json").read_text())
    model = load_language_model(directory)
    path = held_out_prompts or directory.parent / "held_out_prompts.txt"
    prompts = [(Message("user", line),) for line in path.read_text().splitlines()[:MEASURED_PROMPTS]]
    drawn = [one for many in generate(model, prompts, 8, max_tokens=128, seed=100) for one in many]
    card = TEMPLATE.format(
        **facts["shape"],
        **repetition([one.text for one in drawn]),
        millions=facts["parameters"] / 1e6,
        seen=facts["tokens_seen"] / 1e6,
        characters=facts["characters"] / 1e6,
        documents=", ".join(f"{name} {count}" for name, count in facts["documents"].items()),
        held_out="\n".join(_domain_row(row) for row in facts["held_out"]),
        drawn=len(drawn),
        prompts=len(prompts),
        finished=sum(one.finish_reason == "stop" for one in drawn) / len(drawn),
        samples="\n\n".join(_samples(model)),
    )
    (directory / "CARD.md").write_text(card)


def _domain_row(row: dict[str, Any]) -> str:
    figures = f"{row['nats_per_token']:.3f} | {row['bits_per_byte']:.3f}"
    return f"| {row['domain']} | {row['conversations']} | {figures} |"


def _samples(model: LanguageModel) -> Iterator[str]:
    conversations = [(Message("user", text),) for text in SAMPLE_PROMPTS]
    drawn = generate(model, conversations, 2, max_tokens=96, seed=1)
    for prompt, candidates in zip(SAMPLE_PROMPTS, drawn, strict=True):
        yield f"**{prompt}**"
        for one in candidates:
            yield "\n".join(f"> {line}".rstrip() for line in one.text.split("\n"))
