"""The card of value heads: what they are, how far their predictions hold, and what guidance costs."""

from collections.abc import Sequence
from pathlib import Path

from app.rewards.values import ValueHeads
from app.training.values.rollouts import SAMPLING
from app.training.values.scores import ActionScore, BucketScore
from app.training.values.trials import LESS_LIKELY, MORE_REPEATED, SERVED, Trial


def write_card(
    directory: Path,
    values: ValueHeads,
    prefixes: Sequence[BucketScore],
    actions: Sequence[ActionScore],
    trials: Sequence[Trial],
) -> None:
    """Write ``CARD.md`` beside the value heads."""
    lines = [*_head(values), *_prefixes(values, prefixes), *_actions(actions), *_trials(values, trials)]
    (directory / "CARD.md").write_text("\n".join(lines), encoding="utf-8")


def _head(values: ValueHeads) -> list[str]:
    manifest = values.manifest
    facts = manifest["provenance"]
    ways = " and ".join(f"temperature {temperature:g}, nucleus {top_p:g}" for temperature, top_p in SAMPLING)
    return [
        f"# Value heads card: {manifest['version']}",
        "",
        f"For basis {manifest['basis_version']} on model `{manifest['model']['name']}`: {manifest['K']} basis rewards, "
        f"rank {manifest['rank']}, {len(values.bounds)} lengths. Learned from {facts['rollouts']} responses of the "
        f"model ({facts['tokens']} tokens) to {facts['prompts']} prompts, drawn at {ways}, and cut at "
        f"{manifest['max_tokens']} tokens: of longer ones, they predict the rewards of the first "
        f"{manifest['max_tokens']}. Four fifths of the prompts were learned from, a tenth chose penalties and scale; "
        "the scores are about the last tenth.",
        "",
    ]


def _prefixes(values: ValueHeads, scores: Sequence[BucketScore]) -> list[str]:
    return [
        "## What a beginning promises",
        "",
        "Share of the variance of finished responses' basis rewards that is predicted from their first tokens, by the "
        "value heads and by the mean over the tokens so far; the slope of final on predicted, which is 1 if they are "
        "neither timid nor bold; and the mean distance between predicted and final in tenths by prediction, in "
        "standard deviations. Error: root mean square of what is missed between responses to one prompt.",
        "",
        "| tokens from | states | predicted | running mean | slope | distance | error |",
        "|---|---|---|---|---|---|---|",
        *(_bucket(values, one) for one in scores),
        "",
    ]


def _bucket(values: ValueHeads, one: BucketScore) -> str:
    naive = "" if one.naive is None else f"{one.naive:.3f}"
    errors = values.errors[list(values.bounds).index(one.fewest_tokens)]
    error = float(errors.diagonal().mean() ** 0.5)
    return (
        f"| {one.fewest_tokens} | {one.states} | {one.explained:.3f} | {naive} | {one.slope:.2f} | "
        f"{one.miscalibration:.3f} | {error:.3f} |"
    )


def _actions(scores: Sequence[ActionScore]) -> list[str]:
    return [
        "## What a next token adds",
        "",
        "Differences of the value between the token that was drawn and another one in the same state: their root mean "
        "square, the share of it that the low-rank heads predict, and the slope of difference on prediction. The last "
        "row is all lengths together.",
        "",
        "| tokens from | choices | spread | predicted | slope |",
        "|---|---|---|---|---|",
        *(
            f"| {one.fewest_tokens} | {one.choices} | {one.spread:.3f} | {one.explained:.3f} | {one.slope:.2f} |"
            for one in scores
        ),
        "",
    ]


def _trials(values: ValueHeads, trials: Sequence[Trial]) -> list[str]:
    return [
        "## Scale",
        "",
        "Responses to prompts that the heads did not learn from, each guided by the coefficients of a person drawn "
        f"from the basis' population, at temperature {SERVED[0]:g} and nucleus {SERVED[1]:g}. Preferred: how often the "
        "person's own reward would choose it over a plain response; moved: by how many nats guidance changed the "
        "distribution of a whole response; likely: log-probability of a token under the unguided model; repeated: "
        "share of runs of four tokens that occurred before.",
        "",
        "| scale | preferred | moved | likely | repeated | tokens |",
        "|---|---|---|---|---|---|",
        *(
            f"| {one.scale:g} | {one.preferred:.3f} | {one.divergence:.1f} | {one.log_probability:.3f} | "
            f"{one.repeated:.3f} | {one.tokens:.0f} |"
            for one in trials
        ),
        "",
        f"Strength 1 is scale {values.scale:g}: the most preferred one whose tokens are at most {LESS_LIKELY:g} nats "
        f"less likely, and whose runs of four repeat at most {MORE_REPEATED:g} more, than at the smallest scale.",
        "",
    ]
