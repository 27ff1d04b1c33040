"""The bars that an evaluation must clear, judged from its figures. A gate without its baseline is not judged."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from app.training.evaluation.campaign import (
    POPULATION,
    SHUFFLED_ANSWERS,
    SHUFFLED_EVERYTHING,
    SWAPPED,
    Campaign,
)
from app.training.evaluation.scores import excess_certainty

LEADS = {
    "attributes": {5: 0.05, 10: 0.02, 20: 0.02},
    "consensus": {5: 0.15, 10: 0.07, 20: 0.04},
}
"""Least lead in AUC over PReF as published."""
FEW_SHOT_LEADS = {1: 0.0, 3: 0.0, 5: 0.0, 9: 0.0}
FEW_SHOT_LEAD_ONE_TASTE = 0.03
"""Least lead in accuracy over LoRe after 3 shots where people want one thing."""
MOST_LOG_LOSS, MOST_CALIBRATION_ERROR = 0.70, 0.08
MOST_UPDATE_MILLISECONDS, MOST_CHOICE_MILLISECONDS = 1.0, 5.0
SHUFFLED_WITHIN = 0.03
FEWEST_COMPARED = 5
"""Distinct people below whom nothing is said about people."""
TOLD_AROUND, TOLD_WITHIN, FEWEST_TOLD = (0.75, 0.85), 0.03, 20


@dataclass(frozen=True)
class Gate:
    """One bar: what was found in words, and whether it is cleared; None where it does not apply."""

    name: str
    requirement: str
    found: str
    passed: bool | None


def judge(campaign: Campaign) -> list[Gate]:
    """All gates of one campaign; those that compare people only if there are ``FEWEST_COMPARED`` or more."""
    gates = [judged(campaign) for judged in COMPARING]
    if campaign.people < FEWEST_COMPARED:
        found = f"not judged: {campaign.people} people are fewer than {FEWEST_COMPARED}"
        gates = [replace(gate, found=found, passed=None) for gate in gates]
    gates += [judged(campaign) for judged in CHECKING]
    return sorted(gates, key=lambda gate: gate.name)


def _lead(campaign: Campaign) -> Gate:
    leads = LEADS.get(campaign.name, {})
    requirement = "AUC over PReF as published: " + ", ".join(f"+{lead:.2f} at {t}" for t, lead in leads.items())
    if not leads or "pref" not in campaign.methods:
        return _skipped("G1 lead", "AUC over PReF as published (twins 1 and 2)")
    found = {t: campaign.difference(campaign.subject, "pref", "auc", t) for t in leads}
    passed = all(found[t].mean >= lead for t, lead in leads.items())
    return Gate("G1 lead", requirement, "; ".join(f"{t}: {one}" for t, one in found.items()), passed)


def _never_below(campaign: Campaign) -> Gate:
    """Own population at no time beats the personal predictions: no interval lies below zero."""
    requirement = "no 95 % interval of accuracy below the population's"
    others = [POPULATION, *(["uniform"] if "uniform" in campaign.methods else [])]
    compared = [
        (campaign.difference(campaign.subject, other, "accuracy", t), other, t)
        for other in others
        for t in campaign.counts
    ]
    compared = [row for row in compared if np.isfinite(row[0].high)]
    if not compared:
        return _skipped("G2 never below", requirement)
    worst = min(compared, key=lambda row: row[0].high)
    found = f"lowest: {worst[0]} against {worst[1]} after {worst[2]}"
    return Gate("G2 never below", requirement, found, bool(worst[0].high >= 0.0))


def _calibrated(campaign: Campaign) -> Gate:
    figures = campaign.figures(campaign.methods[campaign.subject])
    loss, error = (max(one.mean for one in figures[metric].values()) for metric in ("log_loss", "ece"))
    requirement = f"log-loss at most {MOST_LOG_LOSS:.2f} and ECE at most {MOST_CALIBRATION_ERROR:.2f} at every stage"
    passed = loss <= MOST_LOG_LOSS and error <= MOST_CALIBRATION_ERROR
    return Gate("G3 calibration", requirement, f"largest log-loss {loss:.3f}, largest ECE {error:.3f}", passed)


def _few_shot(campaign: Campaign) -> Gate:
    if not campaign.name.startswith("alpha=") or "lore" not in campaign.methods:
        return _skipped("G4 few shots", "accuracy over LoRe as published (twin 3)")
    leads = dict(FEW_SHOT_LEADS)
    if campaign.name.startswith("alpha=0.001"):
        leads[3] = FEW_SHOT_LEAD_ONE_TASTE
    found = {t: campaign.difference(campaign.subject, "lore", "accuracy", t) for t in leads}
    passed = all(found[t].mean >= lead for t, lead in leads.items())
    requirement = "accuracy over LoRe: " + ", ".join(f"+{lead:.2f} at {t}" for t, lead in leads.items())
    return Gate("G4 few shots", requirement, "; ".join(f"{t}: {one}" for t, one in found.items()), passed)


def _fast(campaign: Campaign) -> Gate:
    if campaign.checks is None:
        return _skipped("G5 speed", "checks were not run")
    seconds = [second for one in campaign.methods[campaign.subject] for second in one.observing]
    update = 1e3 * float(np.quantile(seconds, 0.95)) if seconds else 0.0
    choice = campaign.checks.choice_of_10000_milliseconds
    requirement = (
        f"update at most {MOST_UPDATE_MILLISECONDS:g} ms and choice among 10,000 pairs at most "
        f"{MOST_CHOICE_MILLISECONDS:g} ms (p95, processor time)"
    )
    passed = update <= MOST_UPDATE_MILLISECONDS and choice <= MOST_CHOICE_MILLISECONDS
    return Gate("G5 speed", requirement, f"update {update:.2f} ms, choice {choice:.2f} ms", passed)


def _replayed(campaign: Campaign) -> Gate:
    if campaign.checks is None:
        return _skipped("G6 replay", "checks were not run")
    same, order = campaign.checks.replayed_identically, campaign.checks.order_ignored
    found = f"replay {'identical' if same else 'differs'}, order {'ignored' if order else 'matters'}"
    return Gate("G6 replay", "the same bits on replay and in any order of answers", found, same and order)


def _controlled(campaign: Campaign) -> Gate:
    if not campaign.controls:
        return _skipped("G7 controls", "controls were not run")
    last, subject = max(campaign.counts), campaign.subject
    swap = campaign.difference(SWAPPED, subject, "accuracy", last)
    level = max(0.5, campaign.figures(campaign.methods[subject])["accuracy"][0].mean)
    answers, people = (
        campaign.figures(campaign.controls[name])["accuracy"][last] for name in (SHUFFLED_ANSWERS, SHUFFLED_EVERYTHING)
    )
    passed = swap.high < 0.0 and answers.low <= level and abs(people.mean - level) <= SHUFFLED_WITHIN
    found = f"swapped {swap}; shuffled answers {answers}, with training shuffled too {people}, population {level:.3f}"
    requirement = (
        "accuracy after the last answer: swapped people lose; shuffled answers are not above the population (or a "
        f"coin, if that is better); with training people shuffled too it is within {SHUFFLED_WITHIN:.2f} of it"
    )
    return Gate("G7 controls", requirement, found, passed)


def _no_leak(campaign: Campaign) -> Gate:
    if campaign.checks is None:
        return _skipped("G8 leaks", "checks were not run")
    checks = campaign.checks
    balanced = abs(checks.first_share - 0.5) <= checks.first_share_expected_within
    alike = checks.source is None or checks.source.sides_alike
    found = f"first side preferred {checks.first_share:.3f}, sides {'mirrored' if checks.sides_mirrored else 'differ'}"
    if checks.source is not None:
        read = "as the same" if alike else "DIFFERENTLY"
        found += f"; texts read {read} on either side; before sides were drawn {checks.source.first_share:.3f}"
    requirement = (
        "exchanging sides mirrors predictions; texts are read the same on either side; first side preferred .5 within "
        f"{checks.first_share_expected_within:.3f}"
    )
    return Gate("G8 leaks", requirement, found, checks.sides_mirrored and balanced and alike)


def _told_true(campaign: Campaign) -> Gate:
    """People told about 0.8, the same person at several numbers of answers counting once."""
    low, high = TOLD_AROUND
    gaps = excess_certainty(campaign.methods[campaign.subject], low, high)
    people = len({name for name, gap in zip(campaign.names, gaps, strict=True) if np.isfinite(gap)})
    requirement = (
        f"people told a certainty of {low:g} to {high:g}: the realised rescaled accuracy is within {TOLD_WITHIN:g}"
    )
    if people < FEWEST_TOLD:
        return Gate("G9 certainty", requirement, f"only {people} people were told so much", None)
    gap = campaign.bootstrap.mean(gaps)
    return Gate("G9 certainty", requirement, f"told - realised {gap}, {people} people", abs(gap.mean) <= TOLD_WITHIN)


def _skipped(name: str, requirement: str) -> Gate:
    return Gate(name, requirement, "not judged", None)


COMPARING: Sequence[Callable[[Campaign], Gate]] = (_lead, _never_below, _few_shot, _controlled, _told_true)
CHECKING: Sequence[Callable[[Campaign], Gate]] = (_calibrated, _fast, _replayed, _no_leak)
