"""Chat text for the bundled language model: reads the shipped folders and yields conversations.

Knows the fields of each source folder and what makes a text learnable by a small model. Does not
know tokens, packing or training. Only folders whose licence lets a derived model ship are read.
"""

import hashlib
import json
import lzma
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Role = str
MAX_REPLY_CHARACTERS = 900
MAX_PROMPT_CHARACTERS = 600
HELD_OUT_PERCENT = 2

_PUNCTUATION = str.maketrans({"’": "'", "‘": "'", "“": '"', "”": '"', "–": "-", "—": "-", "…": "...", "\u00a0": " "})
_UNWANTED = re.compile(
    r"```|https?://|www\.|\$\$|\\frac|\\begin|</?[a-z]+>|[\u0400-\uffff]"
    r"|\b(import|def|SELECT|function|const|nigg\w*|fuck\w*|bitch\w*|porn\w*|rape\w*|slut\w*)\b"
)
_IDENTITY = re.compile(
    r"open ?assistant|laion|chatgpt|openai|gpt-?[34]|as an ai|language model|databricks", re.IGNORECASE
)


@dataclass(frozen=True)
class Conversation:
    """One document: alternating turns, or a single ``text`` turn for plain prose."""

    domain: str
    turns: tuple[tuple[Role, str], ...]

    @property
    def held_out(self) -> bool:
        """Whether this conversation belongs to the held-out split, by a hash of its first turn."""
        digest = hashlib.sha256(self.turns[0][1].encode()).digest()
        return int.from_bytes(digest[:4], "big") % 100 < HELD_OUT_PERCENT


def read_conversations(data: Path) -> Iterator[Conversation]:
    """Yield every usable conversation of the shipped folders under ``data``, in a fixed order."""
    sources = (_dolly, _oasst, _roleplay, _schema_guided, _natural_instructions)
    for source in sources:
        for conversation in source(data):
            if all(text for _, text in conversation.turns):
                yield conversation


def clean(text: str) -> str:
    """Fold typographic punctuation to ASCII and collapse runs of blanks and empty lines."""
    text = text.translate(_PUNCTUATION).replace("\r", "")
    text = re.sub(r"\[\d+\]", "", text)
    text = re.sub(r"[ \t]+", " ", text)
    return re.sub(r" ?\n\s*\n\s*", "\n\n", re.sub(r" ?\n ?", "\n", text)).strip()


def usable(text: str) -> bool:
    """Whether a text is plain English prose without code, links, mark-up, slurs or self-reference."""
    if not text or _UNWANTED.search(text) or _IDENTITY.search(text):
        return False
    letters = sum(character.isalpha() or character in " ,.'\n" for character in text)
    return letters >= 0.86 * len(text)


def shorten(text: str, limit: int = MAX_REPLY_CHARACTERS) -> str:
    """Cut a reply to ``limit`` characters at the end of a paragraph, list item or sentence.

    A reply that ends early at a natural boundary teaches a small model to stop; one that is cut
    inside a sentence teaches it to trail off, so a text without any boundary comes back empty.
    """
    if len(text) <= limit:
        return text
    head = text[:limit]
    cut = max(head.rfind("\n"), *(head.rfind(mark + " ") + 1 for mark in ".!?"))
    kept = head[:cut].rstrip() if cut > 60 else ""
    lines = kept.split("\n")
    while lines and lines[-1].rstrip().endswith(":"):
        lines.pop()
    return "\n".join(lines).rstrip()


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    with lzma.open(path, "rt", encoding="utf-8") as lines:
        for line in lines:
            yield json.loads(line)


def _exchange(domain: str, prompt: str, reply: str) -> Iterator[Conversation]:
    prompt, reply = clean(prompt), clean(reply)
    if usable(prompt) and usable(reply) and len(prompt) <= MAX_PROMPT_CHARACTERS:
        short = shorten(reply)
        if len(short) >= 12:
            yield Conversation(domain, (("user", prompt), ("assistant", short)))
        rest = reply[len(short) :].strip()
        if len(rest) > 200:
            yield from _prose(domain + "_prose", rest)


def _prose(domain: str, text: str) -> Iterator[Conversation]:
    text = clean(text)
    while len(text) > 120:
        part = shorten(text, 1000)
        if not part:
            return
        if usable(part):
            yield Conversation(domain, (("text", part),))
        text = text[len(part) :].strip()


def _dolly(data: Path) -> Iterator[Conversation]:
    for row in _rows(data / "dolly15k/dolly.jsonl.xz"):
        if row["context"]:
            yield from _prose("dolly_prose", row["context"])
            if len(row["context"]) < 450:
                yield from _exchange("dolly", row["context"] + "\n\n" + row["instruction"], row["response"])
        else:
            yield from _exchange("dolly", row["instruction"], row["response"])


def _oasst(data: Path) -> Iterator[Conversation]:
    rows = {row["idx"]: row for row in _rows(data / "oasst1_en/train_messages.jsonl.xz")}
    for row in rows.values():
        parent = rows.get(row["inferred_parent"])
        if row["p_assistant"] < 0.6:
            continue
        if parent and row["inferred_conf"] > 0.7 and parent["p_assistant"] < 0.5:
            yield from _exchange("oasst", parent["text"], row["text"])
        else:
            yield from _prose("oasst_prose", row["text"])


def _roleplay(data: Path) -> Iterator[Conversation]:
    for row in _rows(data / "gpteacher_roleplay/roleplay.jsonl.xz"):
        prompt = f"{row['instruction'].strip()} {row['input'].strip()}"
        yield from _exchange("roleplay", prompt, row["response"])


def _schema_guided(data: Path) -> Iterator[Conversation]:
    for number, row in enumerate(_rows(data / "sgd_dialogues/dialogues.jsonl.xz")):
        if number % 4:
            continue
        turns = [(turn["role"], clean(turn["text"])) for turn in row["turns"]][:8]
        roles = [role for role, _ in turns]
        if roles == ["user", "assistant"] * (len(roles) // 2) and roles:
            yield Conversation("sgd", tuple(turns))


def _natural_instructions(data: Path) -> Iterator[Conversation]:
    for row in _rows(data / "natural_instructions_en/instances_permissive.jsonl.xz"):
        task, given, output = row["task"], row["input"].strip(), row["output"].strip()
        if task.startswith("task080_piqa"):
            yield from _exchange("ni_howto", _as_question(given), _as_sentence(output))
        elif task.startswith("task105_story"):
            story = re.sub(r"Sentence\d: ?", "", given).strip() + " " + output
            yield from _prose("ni_story", story)
        elif task.startswith("task023_cosmosqa"):
            yield from _prose("ni_story", re.sub(r" ([.,!?'])", r"\1", given.removeprefix("Context: ")))
        elif task.startswith(("task037_qasc", "task038_qasc")):
            topic = given.rsplit(":", 1)[-1].strip() if "Topic" in given else None
            if topic:
                yield from _exchange("ni_fact", f"Tell me a fact about {topic.rstrip('.')}.", _as_sentence(output))
        elif task.startswith(("task059_ropes", "task672_amazon")):
            yield from _prose("ni_story", output)


def _as_question(goal: str) -> str:
    goal = goal[:1].upper() + goal[1:]
    return goal if goal.endswith(("?", ".")) else goal + "."


def _as_sentence(text: str) -> str:
    text = text[:1].upper() + text[1:]
    return text if text.endswith((".", "!", "?")) else text + "."


def split(conversations: Iterable[Conversation]) -> tuple[list[Conversation], list[Conversation]]:
    """Divide into (training, held out) by each conversation's hash; exact duplicates are dropped."""
    training: list[Conversation] = []
    held_out: list[Conversation] = []
    seen: set[int] = set()
    for conversation in conversations:
        key = hash(conversation.turns)
        if key not in seen:
            seen.add(key)
            (held_out if conversation.held_out else training).append(conversation)
    return training, held_out
