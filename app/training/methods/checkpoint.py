"""Tells the checkpoint of one fit from that of another: by the data, the method with its settings, and the draws."""

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from app.errors import InvalidInput
from app.training.methods.data import BasisMethod, Run, TrainingData

LENGTHS = {"rounds", "iterations"}
"""Settings that say how far a fit goes: one that was cut off may go further."""


def identified(run: Run, method: BasisMethod, data: TrainingData, rng: np.random.Generator) -> Run:
    """``run`` with the digest of the fit that it is about; call it before anything is drawn from ``rng``."""
    if run.checkpoint is None:
        return run
    settings = {name: value for name, value in sorted(vars(method).items()) if name not in LENGTHS}
    digest = hashlib.sha256(repr((method.name, settings, data.rows, rng.bit_generator.state)).encode())
    for array in (data.first, data.second, data.people, data.labels, data.features, data.about_features):
        digest.update(b"none" if array is None else repr((array.shape, array.dtype.str)).encode())
        digest.update(b"" if array is None else np.ascontiguousarray(array).data)
    return replace(run, fit=digest.hexdigest())


def load_checkpoint(run: Run, device: torch.device) -> Mapping[str, Any] | None:
    """The state that an earlier fit saved, None where there is none.

    Raises:
        InvalidInput: If it is of another fit, or cannot be read.
    """
    if run.checkpoint is None or not run.checkpoint.is_file():
        return None
    state = _read(run.checkpoint, device)
    if state.get("fit") != run.fit:
        raise InvalidInput(
            f"{run.checkpoint} is a checkpoint of another fit; delete it, or use the same data and options."
        )
    return state


def save_checkpoint(run: Run, state: Mapping[str, Any]) -> None:
    """Replace the checkpoint, if one is wanted, in one step."""
    if run.checkpoint is None:
        return
    partial = run.checkpoint.with_name(f"{run.checkpoint.name}.partial")
    torch.save({**state, "fit": run.fit}, partial)
    partial.replace(run.checkpoint)


def _read(path: Path, device: torch.device) -> Mapping[str, Any]:
    try:
        return dict(torch.load(path, weights_only=True, map_location=device))
    except Exception as error:  # whatever the archive, the pickle or the file system objects to
        raise InvalidInput(f"{path} cannot be read as a checkpoint ({error}); delete it.") from error
