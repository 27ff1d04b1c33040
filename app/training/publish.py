"""Writes a fitted basis as an artifact with its card."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from app.rewards.artifact import BasisArtifact, save_basis
from app.training.fit import FittedBasis
from app.training.properties import PropertyScale
from app.training.replay import table


def publish_basis(
    fitted: FittedBasis,
    out: Path,
    *,
    model_name: str,
    model_directory: Path,
    reference: np.ndarray,
    scale: PropertyScale,
    provenance: Mapping[str, object],
    notes: Sequence[str],
) -> BasisArtifact:
    """Save ``fitted`` under ``out``; ``reference`` (pairs, hidden) are feature differences; ``notes`` head the card."""
    artifact = save_basis(
        out,
        model_name=model_name,
        model_directory=model_directory,
        heads=fitted.heads.astype(np.float32),
        offset=fitted.offset.astype(np.float32),
        prior=fitted.prior,
        reference=reference @ fitted.heads.T,
        axes=fitted.axes,
        exponent=fitted.exponent,
        certainty_scale=fitted.certainty_scale,
        provenance={**provenance, "property_scale": scale.dump(), "axis_correlations": fitted.correlations},
    )
    (out / "CARD.md").write_text(_card(artifact, fitted, notes))
    return artifact


def _card(artifact: BasisArtifact, fitted: FittedBasis, notes: Sequence[str]) -> str:
    basis, covariance = artifact.basis, np.linalg.inv(artifact.basis.prior.precision)
    lines = [
        f"# Basis card: {basis.version}",
        "",
        f"{len(basis.axes)} basis rewards on model `{basis.model}`; tempering exponent {basis.exponent:g}, certainty "
        f"scale {basis.certainty_scale:.3f}.",
        "",
        *notes,
        "",
        "## Axes",
        "",
        "Names come from measurable properties of text; the correlation is on texts kept out of the fit. The "
        "population's mean and standard deviation are in log-odds per standard deviation of the basis reward.",
        "",
        "| index | axis | held-out correlation | population mean | population sd |",
        "|---|---|---|---|---|",
        *(
            f"| {axis.index} | {axis.label} | {fitted.correlations[axis.index]:.2f} | "
            f"{basis.prior.mean[axis.index]:+.2f} | {covariance[axis.index, axis.index] ** 0.5:.2f} |"
            for axis in basis.axes
        ),
        "",
        "## Held-out people, held-out prompts",
        "",
        "Recorded comparisons; questions chosen actively among those on training prompts, choices predicted on prompts "
        "that nobody was asked about. 95 % intervals over people.",
        "",
        table(fitted.personal),
        "",
        "Control: the answers of another person.",
        "",
        table(fitted.swapped),
        "",
    ]
    if fitted.certainties:
        lines += [
            "## Certainty",
            "",
            "Told: mean certainty on the held-out choices of test people. Realised: accuracy, rescaled so that a coin "
            "flip is 0. The scale was chosen on other people, the same for every number of answers.",
            "",
            "| answers | told | realised |",
            "|---|---|---|",
            *(f"| {one.answers} | {one.told:.3f} | {one.realised:.3f} |" for one in fitted.certainties),
            "",
        ]
    if fitted.others:
        lines += [
            "## The real people of UKPConvArg1, held-out workers and topics",
            "",
            "With a prior of their own, fitted on the training workers. Both stances of a topic are on the same side.",
            "",
            table(fitted.others),
            "",
        ]
    return "\n".join(lines)
