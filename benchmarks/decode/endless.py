"""A copy of a checkpoint that never ends a response, so that every side decodes just the tokens that are counted."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

PROMPTS = (
    "I have a free afternoon and some fresh tomatoes. What could I cook for two friends who like simple food?",
    "How can I sleep better?",
    "Give me three ideas for a rainy weekend with children.",
    "How do I ask my neighbour to be quieter at night?",
    "What should I know before I adopt a cat?",
    "How do I learn to enjoy running?",
    "Write a short note that thanks a colleague.",
    "Why is the sky red in the evening?",
)
TEMPERATURE, TOP_P = 0.8, 0.95


@contextmanager
def endless_checkpoint(directory: Path) -> Iterator[Path]:
    """The checkpoint with the padding mark, which no model writes, in place of its end marks.

    Weights and ``tokenizer.json`` are linked, so that artifacts made for the checkpoint fit the copy.
    """
    with TemporaryDirectory(prefix="attune-endless-") as made:
        copy = Path(made)
        for source in directory.resolve().iterdir():
            (copy / source.name).symlink_to(source)
        config = json.loads((directory / "tokenizer_config.json").read_text())
        pad = json.loads((directory / "config.json").read_text())["pad_token_id"]
        _replace(copy / "tokenizer_config.json", {**config, "eos_token": config["pad_token"]})
        generation = json.loads((directory / "generation_config.json").read_text())
        _replace(copy / "generation_config.json", {**generation, "eos_token_id": pad})
        yield copy


def _replace(path: Path, content: object) -> None:
    path.unlink()
    path.write_text(json.dumps(content))
