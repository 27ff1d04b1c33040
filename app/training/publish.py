"""Writes a fitted basis as an artifact with its card."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np

from app.rewards.artifact import BasisArtifact, save_basis
from app.training.dataset import ComparisonData
from app.training.evidence import Evidence
from app.training.fit import FittedBasis
from app.training.properties import PropertyScale
from app.training.replay import table
from app.training.serving import Serving


def data_sha256(data: ComparisonData) -> str:
    """Hash over the comparisons as canonical JSON lines: sorted keys, no spaces, in their order."""
    digest = hashlib.sha256()
    words = {1.0: "first", 0.5: "tie", 0.0: "second"}
    for first, second, person, label in zip(data.first, data.second, data.people, data.labels, strict=True):
        prompt, text = data.rows[first]
        line = {
            "user_id": data.names[person],
            "prompt": [asdict(turn) for turn in prompt],
            "first": text,
            "second": data.rows[second][1],
            "preferred": words[float(label)],
        }
        digest.update(json.dumps(line, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode() + b"\n")
    return digest.hexdigest()


def publish_basis(
    fitted: FittedBasis,
    out: Path,
    serving: Serving,
    *,
    scale: PropertyScale,
    provenance: Mapping[str, object],
    notes: Sequence[str],
) -> BasisArtifact:
    """Save ``fitted`` under ``out`` with its card, which ``notes`` head."""
    artifact = save_basis(
        out,
        model_name=serving.model_name,
        model_directory=serving.model_directory,
        heads=fitted.heads.astype(np.float32),
        offset=fitted.offset.astype(np.float32),
        prior=fitted.chosen.prior,
        response=fitted.response,
        certainty_curve=fitted.certainty_curve,
        reference=serving.reference @ fitted.heads.T,
        candidate_sets=fitted.rewards(serving.candidate_sets),
        axes=fitted.axes,
        provenance={
            **provenance,
            "method": method_facts(fitted),
            "family_losses": fitted.chosen.losses,
            "property_scale": scale.dump(),
            "axis_correlations": fitted.correlations,
            "warnings": warnings(fitted),
        },
        pooling=serving.pooling,
        trunk=serving.trunk,
    )
    (out / "CARD.md").write_text("\n".join(_card(artifact, fitted, notes)))
    return artifact


def method_facts(fitted: FittedBasis) -> dict[str, object]:
    """Name and settings of the method, as plain values; the rank is that of the basis, of which some fits keep less."""
    return {"name": fitted.method.name, **vars(fitted.method), "rank": len(fitted.heads)}


def warnings(fitted: FittedBasis) -> list[str]:
    """What was not measured because held-out people, or their comparisons of held-out prompts, were too few."""
    found = []
    if not fitted.calibrated_on:
        found.append("Nobody was left to calibrate on: scale, response model and certainty curve are the defaults.")
    if not fitted.tested_on:
        found.append("Nobody was left to test on: there are no scores of held-out people.")
    return [f"{one} More people with more comparisons of more prompts are needed." for one in found]


def _card(artifact: BasisArtifact, fitted: FittedBasis, notes: Sequence[str]) -> list[str]:
    basis, facts = artifact.basis, method_facts(fitted)
    settings = ", ".join(f"{name} {value}" for name, value in facts.items() if name != "name")
    response = basis.response
    ties = "half answers" if response.tie_strength is None else f"Davidson's nu {response.tie_strength:.2f}"
    return [
        f"# Basis card: {basis.version}",
        "",
        *(line for one in warnings(fitted) for line in (f"**{one}**", "")),
        f"{len(basis.axes)} basis rewards on model `{basis.model}`, learned by `{facts['name']}` ({settings}). Prior: "
        f"{basis.prior.family}. Responses: tempering exponent {response.exponent:g}, lapse {response.lapse:g}, ties "
        f"{ties}.",
        "",
        *notes,
        "",
        *_axes(artifact, fitted),
        *_families(fitted),
        "## Held-out people, held-out prompts",
        "",
        "Recorded comparisons; questions chosen actively among those on training prompts, choices predicted on prompts "
        "that nobody was asked about. 95 % intervals over people. The scale of the rewards, the response model and the "
        "certainty curve were fixed by what other people, the calibration people, chose on these same prompts.",
        "",
        *_evidence(fitted.evidence),
        *_certainty(fitted),
        *_others(fitted),
    ]


def _axes(artifact: BasisArtifact, fitted: FittedBasis) -> list[str]:
    population = artifact.basis.prior.population
    mean, std = population.mean, population.std()
    return [
        "## Axes",
        "",
        "Names come from measurable properties of text; the correlation is on texts kept out of the fit. The "
        "population's mean and standard deviation are in log-odds per standard deviation of the basis reward.",
        "",
        "| index | axis | held-out correlation | population mean | population sd |",
        "|---|---|---|---|---|",
        *(
            f"| {axis.index} | {axis.label} | {fitted.correlations[axis.index]:.2f} | {mean[axis.index]:+.2f} | "
            f"{std[axis.index]:.2f} |"
            for axis in artifact.basis.axes
        ),
        "",
    ]


def _families(fitted: FittedBasis) -> list[str]:
    chosen = fitted.chosen
    if not chosen.losses:
        return []
    lines = [
        "## Prior families",
        "",
        "Log-loss in nats of training people left out of the fit, given 0, 3 and 10 of their answers, and its standard "
        "error.",
        "",
        "| family | log-loss |",
        "|---|---|",
        *(f"| {name} | {loss:.4f} ± {error:.4f} |" for name, (loss, error) in chosen.losses.items()),
        "",
    ]
    if chosen.reading:
        lines += [
            f"Reading what people wrote of themselves saved {chosen.reading[0]:.4f} ± {chosen.reading[1]:.4f} nats on "
            "the calibration people who wrote; it is part of the prior if that is more than one standard error.",
            "",
        ]
    return lines


def _evidence(evidence: Evidence) -> list[str]:
    return [
        table(evidence.personal),
        "",
        "Control: the answers of another person.",
        "",
        table(evidence.swapped),
        "",
        "Control: the person's own answers in random order.",
        "",
        table(evidence.shuffled),
        "",
    ]


def _certainty(fitted: FittedBasis) -> list[str]:
    if not fitted.certainties:
        return []
    return [
        "## Certainty",
        "",
        "Told: mean certainty on the held-out choices of test people. Realised: accuracy, rescaled so that a coin flip "
        "is 0. The curve was fitted on other people, the same for every number of answers.",
        "",
        "| answers | told | realised |",
        "|---|---|---|",
        *(f"| {one.answers} | {one.told:.3f} | {one.realised:.3f} |" for one in fitted.certainties),
        "",
    ]


def _others(fitted: FittedBasis) -> list[str]:
    if fitted.others is None:
        return []
    return [
        "## The real people of UKPConvArg1, held-out workers and topics",
        "",
        "With a Gaussian prior of their own, fitted on the training workers. Both stances of a topic are on the same "
        "side.",
        "",
        *_evidence(fitted.others),
    ]
