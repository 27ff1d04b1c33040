"""``attune basis``: learn basis rewards and the population prior from comparisons."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from app.commands.progress import Steps, steps

if TYPE_CHECKING:
    from app.entities import Conversation
    from app.rewards.values import ValueHeads
    from app.training.dataset import ComparisonData

Method = Literal["variational", "uniform", "pref", "lore", "p-rm"]
UserModel = Literal["individual", "cluster", "uniform"]
Pooling = Literal["response_mean", "last_token", "mean", "first_token"]

app = typer.Typer(no_args_is_help=True, help="Learn basis rewards and the population's prior.")
BUNDLED = Path(__file__).parent.parent / "bundled"
MODEL = Annotated[Path, typer.Option(help="Checkpoint of the language model.")]
RANK = Annotated[int, typer.Option(min=1, max=64, help="K, the number of basis rewards.")]
SEED = Annotated[int, typer.Option(help="Seeds splits, initialisation and bootstrap.")]
THREADS = Annotated[int, typer.Option(min=1, help="Processor threads.")]
RESPONSES = Annotated[int, typer.Option(min=1, max=64, help="Responses that the model writes to each prompt.")]
MAX_TOKENS = Annotated[int, typer.Option(min=2, help="Where the responses that value heads learn from are cut.")]


@app.command()
def fit(
    data: Annotated[Path, typer.Option(help="Comparisons, one JSON object a line.")],
    out: Annotated[Path, typer.Option(help="Artifact directory to write.")],
    model: MODEL = BUNDLED / "model",
    method: Annotated[Method, typer.Option(help="How the basis rewards are learned.")] = "variational",
    rank: Annotated[
        int | None,
        typer.Option(min=1, max=64, help="K, the number of basis rewards; chosen on held-out people if none."),
    ] = None,
    user_model: Annotated[UserModel, typer.Option(help="How people differ, for p-rm.")] = "individual",
    alpha: Annotated[
        float, typer.Option(min=0, max=1, help="Weight of the personal part of the loss, for p-rm.")
    ] = 0.5,
    trunk: Annotated[Path | None, typer.Option(help="Checkpoint that reads the texts, if not the model.")] = None,
    pooling: Annotated[Pooling | None, typer.Option(help="Of the trunk's states; the usual one if none.")] = None,
    lora_rank: Annotated[int, typer.Option(min=0, help="Tune the trunk with adapters of this rank; 0 does not.")] = 0,
    cache: Annotated[
        Path | None, typer.Option(help="Keep the texts' features here, for --resume and later runs.")
    ] = None,
    resume: Annotated[bool, typer.Option(help="Go on where an interrupted run with the same options was.")] = False,
    value_heads: Annotated[
        bool, typer.Option("--value-heads", help="Learn value heads as well, from answers to the same prompts.")
    ] = False,
    skip_invalid: Annotated[bool, typer.Option(help="Leave malformed lines out instead of stopping.")] = False,
    seed: SEED = 0,
    threads: THREADS = 2,
) -> None:
    """Learn K basis rewards, name them, fit the prior and its calibration, and score it on held-out people.

    Example: attune basis fit --data comparisons.jsonl --out bases/mine --cache features
    """
    from app.training.recipes import fit_from_comparisons
    from app.training.threads import use_threads
    from app.training.trunks import TrunkChoice

    if method == "uniform" and rank not in (None, 1):
        raise typer.BadParameter("the uniform method has one basis reward; leave --rank out.", param_hint="--rank")
    use_threads(threads)
    comparisons = _read(data, skip_invalid)
    checkpoint = _checkpoint(out, resume)
    with steps() as progress:
        artifact = fit_from_comparisons(
            comparisons,
            model,
            out,
            method=method,
            rank=rank,
            user_model=user_model,
            alpha=alpha,
            trunk=TrunkChoice(trunk, pooling, lora_rank, cache),
            checkpoint=checkpoint,
            seed=seed,
            progress=progress,
        )
        if value_heads:
            prompts = list(dict.fromkeys(prompt for prompt, _ in comparisons.rows))
            _fit_values(out, model, prompts, responses=4, max_tokens=128, rank=32, seed=seed, progress=progress)
    checkpoint.unlink(missing_ok=True)
    for warning in artifact.manifest["provenance"]["warnings"]:
        typer.echo(f"warning: {warning}", err=True)
    typer.echo((out / "CARD.md").read_text())
    typer.echo(f"Basis {artifact.basis.version} written to {out}.")


def _read(data: Path, skip_invalid: bool) -> "ComparisonData":
    """The comparisons, with a word about what was skipped and what says nothing."""
    from app.training.comparison_file import SkippedLines, read_comparisons

    skipped = SkippedLines()
    comparisons = read_comparisons(data, skip_invalid=skip_invalid, skipped=skipped)
    for fault in skipped.faults:
        typer.echo(f"skipped: {fault}", err=True)
    if skipped.count > len(skipped.faults):
        typer.echo(f"skipped: {skipped.count} lines in all", err=True)
    if comparisons.identical:
        typer.echo(f"{comparisons.identical} comparisons of a text with itself say nothing.", err=True)
    typer.echo(
        f"{len(comparisons)} comparisons by {len(comparisons.names)} people over {len(comparisons.rows)} texts.",
        err=True,
    )
    return comparisons


def _checkpoint(out: Path, resume: bool) -> Path:
    """Where the fit saves its state; what an earlier run left there is used only if asked for."""
    out.mkdir(parents=True, exist_ok=True)
    checkpoint = out / "fit.unfinished"
    if not resume:
        checkpoint.unlink(missing_ok=True)
    return checkpoint


@app.command()
def bundle(
    data: Annotated[Path, typer.Option(help="Folder that holds the text collections.")],
    out: Annotated[Path, typer.Option(help="Where basis and pool are written.")] = BUNDLED,
    model: MODEL = BUNDLED / "model",
    rank: RANK = 10,
    people: Annotated[int, typer.Option(min=20, help="Simulated people.")] = 3000,
    prompts: Annotated[int, typer.Option(min=20, help="Prompts that the model answers for the comparisons.")] = 500,
    value_prompts: Annotated[int, typer.Option(min=0, help="Prompts that value heads learn from; 0 for none.")] = 4000,
    seed: SEED = 5,
    threads: THREADS = 2,
) -> None:
    """Make the bundled basis with its value heads, and score the bundled question pool on it.

    Example: attune basis bundle --data data
    """
    from app.training.recipes import BundleRecipe, bundle_basis
    from app.training.threads import use_threads

    use_threads(threads)
    recipe = BundleRecipe(rank=rank, people=people, prompts=prompts, seed=seed)
    with typer.progressbar(length=prompts, label="prompts") as bar:
        artifact, pairs = bundle_basis(data, model, out, recipe, lambda: bar.update(1))
    if value_prompts:
        with steps() as progress:
            _fit_values(
                out / "basis",
                model,
                _collected(data, value_prompts, seed),
                responses=4,
                max_tokens=128,
                rank=32,
                seed=seed,
                progress=progress,
            )
    typer.echo((out / "basis/CARD.md").read_text())
    typer.echo(f"Basis {artifact.basis.version}; the pool has {pairs} pairs.")


@app.command()
def values(
    basis: Annotated[Path, typer.Option(help="Basis artifact that gets the value heads.")] = BUNDLED / "basis",
    model: MODEL = BUNDLED / "model",
    data: Annotated[
        Path | None, typer.Option(help="Folder that holds the text collections, for their prompts.")
    ] = None,
    prompts: Annotated[Path | None, typer.Option(help="Prompts to answer instead, one a line.")] = None,
    count: Annotated[int, typer.Option(min=20, help="Most prompts to answer.")] = 4000,
    responses: RESPONSES = 4,
    max_tokens: MAX_TOKENS = 128,
    rank: Annotated[int, typer.Option(min=1, max=256, help="Of the heads for next tokens.")] = 32,
    seed: SEED = 5,
    threads: THREADS = 1,
) -> None:
    """Add value heads to a basis: what beginnings promise and next tokens add, for guidance and early stopping.

    Example: attune basis values --basis bases/mine --model models/mine --prompts prompts.txt
    """
    from app.training.threads import use_threads

    if (data is None) == (prompts is None):
        raise typer.BadParameter("name either a folder of collections or a file of prompts.", param_hint="--prompts")
    use_threads(threads)
    conversations = _listed(prompts, count) if prompts is not None else _collected(data or Path(), count, seed)
    with steps() as progress:
        fitted = _fit_values(
            basis,
            model,
            conversations,
            responses=responses,
            max_tokens=max_tokens,
            rank=rank,
            seed=seed,
            progress=progress,
        )
    typer.echo((basis / "values/CARD.md").read_text())
    typer.echo(f"Value heads {fitted.manifest['version']} written to {basis / 'values'}.")


def _fit_values(
    basis: Path,
    model: Path,
    prompts: "Sequence[Conversation]",
    *,
    responses: int,
    max_tokens: int,
    rank: int,
    seed: int,
    progress: Steps,
) -> "ValueHeads":
    """Learn value heads and add them to the basis."""
    from app.training.values.actions import ActionSettings
    from app.training.values.fit import ValueRecipe, fit_value_heads

    recipe = ValueRecipe(responses, max_tokens, seed, ActionSettings(rank=rank))
    return fit_value_heads(basis, model, prompts, recipe, progress=progress)


def _listed(path: Path, count: int) -> "list[Conversation]":
    """The first prompts of a file, as conversations of one turn."""
    from app.errors import InvalidInput
    from app.training.bundle import user

    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise InvalidInput(f"{path} cannot be read ({error.strerror}); name a file of prompts, one a line.") from error
    return [user(line.strip()) for line in lines if line.strip()][:count]


def _collected(data: Path, count: int, seed: int) -> "list[Conversation]":
    """Prompts of the training split of the text collections."""
    import numpy as np

    from app.training.bundle import generation_prompts, user

    return [user(text) for text in generation_prompts(data, count, np.random.default_rng([seed, 1]))]
