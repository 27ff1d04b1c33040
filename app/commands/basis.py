"""``attune basis``: learn basis rewards and the population prior from comparisons."""

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(no_args_is_help=True, help="Learn basis rewards and the population's prior.")
BUNDLED = Path(__file__).parent.parent / "bundled"
MODEL = Annotated[Path, typer.Option(help="Checkpoint of the language model.")]
RANK = Annotated[int, typer.Option(min=1, max=64, help="K, the number of basis rewards.")]
SEED = Annotated[int, typer.Option(help="Seeds splits, initialisation and bootstrap.")]
THREADS = Annotated[int, typer.Option(min=1, help="Processor threads.")]


@app.command()
def fit(
    data: Annotated[Path, typer.Option(help="Comparisons, one JSON object a line.")],
    out: Annotated[Path, typer.Option(help="Artifact directory to write.")],
    model: MODEL = BUNDLED / "model",
    rank: RANK = 8,
    skip_invalid: Annotated[bool, typer.Option(help="Leave malformed lines out instead of stopping.")] = False,
    seed: SEED = 0,
    threads: THREADS = 2,
) -> None:
    """Learn K basis rewards, name them, fit the prior and its calibration, and score it on held-out people.

    Example: attune basis fit --data comparisons.jsonl --out bases/mine --rank 8
    """
    from app.training.dataset import read_comparisons
    from app.training.recipes import fit_from_comparisons
    from app.training.threads import use_threads

    use_threads(threads)
    skipped: list[str] = []
    comparisons = read_comparisons(data, skip_invalid=skip_invalid, skipped=skipped)
    for fault in skipped:
        typer.echo(f"skipped: {fault}", err=True)
    artifact = fit_from_comparisons(comparisons, model, out, rank=rank, seed=seed)
    typer.echo((out / "CARD.md").read_text())
    typer.echo(f"Basis {artifact.basis.version} written to {out}.")


@app.command()
def bundle(
    data: Annotated[Path, typer.Option(help="Folder that holds the text collections.")],
    out: Annotated[Path, typer.Option(help="Where basis and pool are written.")] = BUNDLED,
    model: MODEL = BUNDLED / "model",
    rank: RANK = 10,
    people: Annotated[int, typer.Option(min=20, help="Simulated people.")] = 3000,
    prompts: Annotated[int, typer.Option(min=20, help="Prompts that the model answers for the comparisons.")] = 500,
    seed: SEED = 5,
    threads: THREADS = 2,
) -> None:
    """Make the bundled basis and score the bundled question pool on it.

    Example: attune basis bundle --data data
    """
    from app.training.recipes import BundleRecipe, bundle_basis
    from app.training.threads import use_threads

    use_threads(threads)
    recipe = BundleRecipe(rank=rank, people=people, prompts=prompts, seed=seed)
    with typer.progressbar(length=prompts, label="prompts") as bar:
        artifact, pairs = bundle_basis(data, model, out, recipe, lambda: bar.update(1))
    typer.echo((out / "basis/CARD.md").read_text())
    typer.echo(f"Basis {artifact.basis.version}; the pool has {pairs} pairs.")
