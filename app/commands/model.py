"""``attune model``: train and export the bundled language model."""

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(no_args_is_help=True, help="Train the bundled language model from scratch.")


@app.command()
def train(
    data: Annotated[Path, typer.Option(help="Folder that holds the text collections.")],
    run: Annotated[Path, typer.Option(help="Checkpoints go here; an unfinished run there is resumed.")],
    tokens: Annotated[float, typer.Option(help="Tokens to read in all.")] = 30e6,
    threads: Annotated[int, typer.Option(help="Processor threads.")] = 2,
    seed: Annotated[int, typer.Option(help="Seeds weights, order and packing.")] = 17,
) -> None:
    """Train, or resume training, until the given number of tokens has been read.

    Example: attune model train --data data --run runs/small --tokens 30e6
    """
    from app.training.language.network import NetworkShape
    from app.training.language.pretrain import LanguageTrainer, Recipe
    from app.training.threads import use_threads

    use_threads(threads)
    LanguageTrainer(run, data, Recipe(tokens=int(tokens), seed=seed), NetworkShape()).run()


@app.command()
def export(
    data: Annotated[Path, typer.Option(help="Folder that holds the text collections, for the held-out loss.")],
    run: Annotated[Path, typer.Option(help="A run of 'attune model train'.")],
    out: Annotated[Path, typer.Option(help="Checkpoint directory to write.")],
    tokens: Annotated[float, typer.Option(help="The --tokens that the run was trained with, for the card.")] = 30e6,
) -> None:
    """Write the run's newest weights as a plain checkpoint, with its held-out scores and unedited samples.

    Example: attune model export --data data --run runs/small --out app/bundled/model
    """
    from app.training.language.card import write_card
    from app.training.language.export import export_checkpoint, score_domains, write_facts
    from app.training.language.network import NetworkShape
    from app.training.language.pretrain import LanguageTrainer, Recipe

    shape = NetworkShape()
    export_checkpoint(run, out, shape)
    trainer = LanguageTrainer(run, data, Recipe(tokens=int(tokens)), shape)
    write_facts(out, trainer, score_domains(trainer))
    write_card(out)
