"""Where and how precisely a model runs unless the settings say otherwise."""

from typing import Literal

import torch

_SMALL_HIDDEN = 1024


def usual_threads(hidden: int, most: int) -> int:
    """One processor thread for models up to ``hidden`` 1024, ``most`` for larger ones.

    The products of a small model take less than a tenth of a millisecond. Splitting them gains little on an idle
    machine, and on a busy one every step waits for threads that are not running: a hundred times slower, measured
    with two threads on two busy cores.
    """
    return 1 if hidden <= _SMALL_HIDDEN else most


def usual_device() -> str:
    """A GPU if there is one, as torch names it."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def dtype_of(name: Literal["auto", "float32", "bfloat16"], device: str) -> torch.dtype:
    """The precision of weights and states; "auto" is bfloat16 on a GPU and float32 on a CPU, where rows round alike."""
    if name == "auto":
        return torch.float32 if device == "cpu" else torch.bfloat16
    return torch.float32 if name == "float32" else torch.bfloat16
