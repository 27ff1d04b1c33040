"""``attune evaluate``: quality claims as commands, with seeds and intervals over people."""

import asyncio
import json
import re
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryFile
from typing import Annotated

import httpx2
import typer

from app.commands.local_service import local_service
from app.commands.progress import steps
from app.errors import InvalidInput

app = typer.Typer(no_args_is_help=True, help="Measure what personalisation is worth.")
BUNDLED = Path(__file__).parent.parent / "bundled"
TITLES = {
    "attributes": "Simulated people with signed traits, everyone different (needs no data).",
    "consensus": "Simulated people who differ around a common taste (needs no data).",
    "personalllm": "Simulated people who weigh ten reward models, few given pairs each (needs no data).",
    "jester5k": "Real people rating jokes.",
    "polis_votes": "Real people voting on statements.",
    "ukpconvarg1": "Real people judging arguments.",
    "mt_bench_human": "Real people judging chat answers.",
}
SIMULATED = ("attributes", "consensus", "personalllm")
ALIASES = {"twin1": "attributes", "twin2": "consensus", "twin3": "personalllm"}


@app.callback()
def evaluate() -> None:
    """Evaluations print a table, and write JSON and plots where asked."""


def prepare(json_out: Path | None, plots: Path | None) -> None:
    """Make the folders of what will be written; raises ``InvalidInput`` if it could not be, before hours of work."""
    try:
        if json_out:
            json_out.parent.mkdir(parents=True, exist_ok=True)
            new = not json_out.exists()
            json_out.open("a").close()
            if new:
                json_out.unlink()
        if plots:
            plots.mkdir(parents=True, exist_ok=True)
            TemporaryFile(dir=plots).close()
    except OSError as error:
        raise InvalidInput(f"Cannot write there: {error}; choose another --json or --plots.") from error


def evaluation(name: str) -> Callable[..., None]:
    """The command that runs the evaluation ``name``."""

    def command(
        data: Annotated[
            Path | None, typer.Option(help="Folder of the data set, or of all of them; simulated worlds need none.")
        ] = None,
        test_users: Annotated[Path | None, typer.Option(help="Ids of the people to hold out, one a line.")] = None,
        seeds: Annotated[int, typer.Option(min=1, help="How many draws of people, from seed 0 on.")] = 5,
        methods: Annotated[
            str | None,
            typer.Option(help="Baselines beside attune, with commas between; all that are there if not given."),
        ] = None,
        basis: Annotated[str, typer.Option(help="How attune learns its basis.", metavar="METHOD")] = "variational",
        family: Annotated[
            str | None, typer.Option(help="attune's prior: this family, fitted; chosen if not given.")
        ] = None,
        controls: Annotated[bool, typer.Option(help="Run the controls: swapped and shuffled people.")] = True,
        json_out: Annotated[Path | None, typer.Option("--json", help="Write all figures here.")] = None,
        plots: Annotated[Path | None, typer.Option(help="Write plots into this directory.")] = None,
    ) -> None:
        prepare(json_out, plots)
        from app.training.evaluation.attune_method import AttuneMethod, Options
        from app.training.evaluation.baselines import chosen_baselines
        from app.training.evaluation.campaign import run_campaign
        from app.training.evaluation.problems import draws, read_test_users
        from app.training.evaluation.report import markdown, plot, write_json
        from app.training.threads import use_threads

        use_threads(1)
        found = draws(name, data, read_test_users(test_users) if test_users else None)
        options = Options(basis=basis, family=family)
        baselines = chosen_baselines(methods, lambda notice: typer.echo(notice, err=True))
        campaigns = []
        for cell, draw in found.items():
            tried = [AttuneMethod(options=options), *(make() for make in baselines)]
            campaign = run_campaign(
                cell, draw, range(seeds), tried, controls=controls, progress=lambda step: typer.echo(step, err=True)
            )
            typer.echo(markdown(campaign) + "\n")
            if plots:
                plot(campaign, plots / f"{re.sub(r'[^a-z0-9.]+', '_', cell.lower())}.png")
            campaigns.append(campaign)
        if json_out:
            write_json(name, campaigns, json_out)

    command.__doc__ = f"""{TITLES[name]}

    Example: attune evaluate {name}{"" if name in SIMULATED else " --data data"} --seeds 5 --json {name}.json
    """
    return command


for _name in TITLES:
    app.command(_name)(evaluation(_name))
for _alias, _name in ALIASES.items():
    app.command(_alias, hidden=True)(evaluation(_name))


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
    prepare(json_out, plots)
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
        plot_journey(result, plots / "journey.png")


@app.command()
def frontier(
    people: Annotated[int, typer.Option(min=2, help="Simulated people, new ones for every seed.")] = 40,
    prompts: Annotated[str, typer.Option(help="'held-out', or 'training' with --data.")] = "held-out",
    distinct: Annotated[int, typer.Option(min=1, help="Prompts in all.")] = 48,
    each: Annotated[int, typer.Option(min=1, help="Of these, for each person.")] = 12,
    questions: Annotated[int, typer.Option(min=0, max=50, help="Questions that each person answers before.")] = 10,
    max_tokens: Annotated[int, typer.Option(min=8, help="Longest answer, in tokens.")] = 128,
    seeds: Annotated[int, typer.Option(min=1, help="How many draws of people, prompts and texts.")] = 1,
    seed: Annotated[int, typer.Option(min=0, help="The first of them.")] = 2024,
    only: Annotated[str | None, typer.Option(help="Only ways to answer that match this regular expression.")] = None,
    model: Annotated[Path, typer.Option(help="Checkpoint of the language model.")] = BUNDLED / "model",
    basis: Annotated[Path, typer.Option(help="Basis artifact.")] = BUNDLED / "basis",
    pool: Annotated[Path, typer.Option(help="Question pool.")] = BUNDLED / "pool",
    data: Annotated[Path | None, typer.Option(help="Folder that holds the text collections.")] = None,
    record: Annotated[bool, typer.Option(help="Keep the points in the basis' value heads, for mode auto.")] = False,
    json_out: Annotated[Path | None, typer.Option("--json", help="Write all figures here.")] = None,
    plots: Annotated[Path | None, typer.Option(help="Write frontier.png into this directory.")] = None,
) -> None:
    """What each way to answer is worth to simulated people, and how many tokens it takes.

    Example: attune evaluate frontier --json frontier.json --plots docs/images
    """
    prepare(json_out, plots)
    if prompts not in ("held-out", "training") or (prompts == "training" and data is None):
        raise InvalidInput("--prompts is 'held-out', or 'training' together with --data.")
    if record and prompts != "training":
        raise InvalidInput("--record takes points from training prompts alone; add --prompts training --data DATA.")
    from app.rewards.values import record_frontier, values_directory
    from app.training.frontier.arms import matching_cells
    from app.training.frontier.figures import points, rows, targets
    from app.training.frontier.measure import Sizes
    from app.training.frontier.report import markdown, plot, to_json
    from app.training.frontier.run import Artifacts, FrontierOptions, run_frontier, training_prompts

    heads = values_directory(basis)
    if record and heads is None:
        raise InvalidInput(f"There are no value heads in {basis} to keep the points in; run 'attune basis values'.")
    held_out = (BUNDLED / "held_out_prompts.txt").read_text().splitlines()
    texts = training_prompts(data, basis) if prompts == "training" and data else held_out
    options = FrontierOptions(people, seeds, seed, questions, sizes=Sizes(distinct, each), max_tokens=max_tokens)
    cells = matching_cells(only)
    with steps() as progress:
        measured, fluency = asyncio.run(run_frontier(Artifacts(model, basis, pool), texts, cells, options, progress))
    found = rows(measured, fluency)
    judged = targets(found)
    typer.echo(markdown(found, judged, measured))
    if json_out:
        json_out.write_text(to_json(found, judged, measured, {"prompts": prompts, "options": asdict(options)}))
    if plots:
        plot(found, plots / "frontier.png")
    if record and heads is not None:
        record_frontier(heads, points(found))
