"""What simulated people write of themselves: plain sentences about their strongest tastes.

Each taste can be said in several ways, and some of these ways are kept for people who are held out, so that a prior
that reads such texts is judged on wordings that it has not seen. Knows tastes only, no comparisons.
"""

import numpy as np
from jaxtyping import Float64

from app.training.properties import PROPERTIES

MOST_TASTES = 3

# For each property: ways to want more of it, and ways to want less. The last of each is kept for held-out people.
_WISHES: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "length": (
        ("long, detailed answers", "answers that go into depth", "thorough explanations", "a long and thorough reply"),
        ("short answers", "replies that are brief", "answers that get to the point", "a brief, short reply"),
    ),
    "structure": (
        ("bullet points and lists", "well structured answers", "numbered steps", "lists with clear steps"),
        ("plain prose instead of lists", "flowing text", "no bullet points", "text in flowing prose, no lists"),
    ),
    "formality": (
        ("a formal tone", "professional language", "polite and formal wording", "formal, professional wording"),
        ("a casual tone", "relaxed, everyday language", "informal wording", "casual everyday wording"),
    ),
    "warmth": (
        ("warm and friendly words", "encouragement", "a kind, personal tone", "friendly encouragement"),
        ("matter-of-fact answers", "a neutral tone", "no pleasantries", "a neutral, matter-of-fact tone"),
    ),
    "questions": (
        ("questions back to me", "being asked what I mean", "follow-up questions", "being asked questions"),
        ("no questions back", "answers without follow-up questions", "not being asked anything", "no follow-up at all"),
    ),
    "simplicity": (
        ("simple words", "easy explanations", "short sentences anyone can follow", "easy, simple sentences"),
        ("technical terms", "expert vocabulary", "precise scientific language", "precise expert terms"),
    ),
    "concreteness": (
        ("concrete examples", "numbers and facts", "real names and figures", "facts with concrete numbers"),
        ("general statements", "the big picture", "ideas rather than details", "general ideas, the big picture"),
    ),
    "hedging": (
        ("cautious wording", "being told what is uncertain", "careful, balanced statements", "careful, cautious words"),
        ("clear, definite statements", "confident answers", "no maybes", "confident, definite answers"),
    ),
    "enthusiasm": (
        ("enthusiasm", "an excited, cheerful voice", "lots of energy", "cheerful enthusiasm"),
        ("a sober voice", "calm answers without exclamation marks", "no hype", "a calm, sober voice"),
    ),
    "voice": (
        ("a personal voice that says I", "opinions in the first person", "personal views", "first person opinions"),
        ("an impersonal voice", "answers without opinions", "an objective style", "an objective, impersonal style"),
    ),
}
_OPENINGS = ("I like", "I prefer", "Please give me", "What I want is", "I am happiest with", "For me it has to be")
_HELD_OUT_OPENINGS = ("I appreciate", "Best for me:", "I would love")
_JOINS = (" I also like ", " Also, I care about ", " And I want ")


def write_about(taste: Float64[np.ndarray, " properties"], rng: np.random.Generator, *, held_out: bool) -> str:
    """One to three sentences about the strongest tastes, strongest first.

    Args:
        taste: Weights (10,) on the standardised properties.
        rng: Draws how many tastes are told and how.
        held_out: Whether the person is held out, and so uses wordings that nobody else does.
    """
    told = np.argsort(-np.abs(taste))[: rng.integers(1, MOST_TASTES + 1)]
    wishes = [_wish(PROPERTIES[index].name, taste[index] > 0.0, rng, held_out=held_out) for index in told]
    opening = str(rng.choice(_HELD_OUT_OPENINGS if held_out else _OPENINGS))
    return f"{opening} {wishes[0]}." + "".join(f"{rng.choice(_JOINS)}{wish}." for wish in wishes[1:])


def _wish(name: str, more: bool, rng: np.random.Generator, *, held_out: bool) -> str:
    ways = _WISHES[name][0 if more else 1]
    return ways[-1] if held_out else str(rng.choice(ways[:-1]))
