"""``attune pool``: build the question pool of candidate pairs for a basis."""

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(no_args_is_help=True, help="Question pools.")
BUNDLED = Path(__file__).parent.parent / "bundled"


@app.callback()
def pool() -> None:
    """A pool holds prompts with several responses each, and their basis rewards."""


@app.command()
def build(
    out: Annotated[Path, typer.Option(help="Directory to write.")],
    prompts: Annotated[Path, typer.Option(help="pool.json with responses, or a text file with one prompt a line.")],
    model: Annotated[Path, typer.Option(help="Checkpoint of the language model.")] = BUNDLED / "model",
    basis: Annotated[Path, typer.Option(help="Basis artifact.")] = BUNDLED / "basis",
    responses: Annotated[int, typer.Option(min=2, max=32, help="Responses kept for each prompt of a text file.")] = 6,
    topic: Annotated[str, typer.Option(help="Topic of the prompts of a text file.")] = "general",
    seed: Annotated[int, typer.Option(help="Seeds the generations.")] = 0,
) -> None:
    """Score a written pool, or generate one from the model's own responses.

    Example: attune pool build --prompts prompts.txt --out pools/mine
    """
    from app.rewards.artifact import check_model, load_basis
    from app.rewards.language import load_language_model
    from app.rewards.pool import read_prompts
    from app.training.pool import generated_pool, score_pool

    artifact = load_basis(basis)
    check_model(artifact.manifest, model)
    network = load_language_model(model)
    if prompts.suffix == ".json":
        chosen = list(read_prompts(prompts))
    else:
        lines = [line.strip() for line in prompts.read_text(encoding="utf-8").splitlines() if line.strip()]
        with typer.progressbar(length=len(lines), label="prompts") as bar:
            chosen = generated_pool(network, artifact, lines, responses, topic, seed, lambda: bar.update(1))
    pairs = score_pool(network, artifact, chosen, out)
    typer.echo(f"{len(chosen)} prompts, {pairs} pairs, basis {artifact.basis.version}: {out}")
