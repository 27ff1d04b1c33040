"""``attune evaluate``: quality claims as commands, with seeds and intervals over people."""

import json
from contextlib import nullcontext
from pathlib import Path
from typing import Annotated

import httpx2
import typer

from app.commands.local_service import local_service

app = typer.Typer(no_args_is_help=True, help="Measure what personalisation is worth.")
BUNDLED = Path(__file__).parent.parent / "bundled"


@app.callback()
def evaluate() -> None:
    """Evaluations print a table, and write JSON and plots where asked."""


@app.command()
def journey(
    people: Annotated[int, typer.Option(min=2, help="Simulated people.")] = 40,
    prompts: Annotated[int, typer.Option(min=1, help="Held-out prompts for each of them.")] = 20,
    n_candidates: Annotated[int, typer.Option(min=2, max=64, help="Best of how many.")] = 16,
    seed: Annotated[int, typer.Option(help="Draws people, their noise and their prompts.")] = 2024,
    url: Annotated[str | None, typer.Option(help="A running service; without it one is started.")] = None,
    json_out: Annotated[Path | None, typer.Option("--json", help="Write all figures here.")] = None,
    plots: Annotated[Path | None, typer.Option(help="Write journey.png into this directory.")] = None,
) -> None:
    """Simulated people answer questions over HTTP, then judge what the service writes for them.

    Example: attune evaluate journey --people 40 --json journey.json --plots docs/images
    """
    from app.training.journey import Journey, JourneyOptions
    from app.training.properties import PropertyScale
    from app.training.report import journey_json, journey_table, plot_journey

    options = JourneyOptions(people=people, prompts_each=prompts, n_candidates=n_candidates, seed=seed)
    scale = PropertyScale.load(
        json.loads((BUNDLED / "basis/manifest.json").read_text())["provenance"]["property_scale"]
    )
    held_out = (BUNDLED / "held_out_prompts.txt").read_text().splitlines()
    service = local_service() if url is None else nullcontext(url)
    with service as address, httpx2.Client(base_url=address, timeout=120) as client:
        total = people * len(options.counts)
        with typer.progressbar(length=total, label="people x stages") as bar:
            result = Journey(client, scale, held_out, options).run(lambda: bar.update(1))
    typer.echo(journey_table(result))
    if json_out:
        json_out.write_text(journey_json(result, options))
    if plots:
        plots.mkdir(parents=True, exist_ok=True)
        plot_journey(result, plots / "journey.png")
