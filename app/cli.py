"""The command line. Thin: heavy libraries are imported inside the commands."""

import asyncio
import json
from typing import Annotated

import typer

from app.commands import basis, demo, engine, evaluate, model, pool
from app.config import Settings, load_settings
from app.errors import AttuneError

cli = typer.Typer(
    name="attune",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Answers in each person's taste, learned from a few questions.",
)
cli.command()(demo.demo)
cli.add_typer(basis.app, name="basis")
cli.add_typer(engine.app, name="engine")
cli.add_typer(evaluate.app, name="evaluate")
cli.add_typer(model.app, name="model")
cli.add_typer(pool.app, name="pool")


@cli.command()
def serve(
    host: Annotated[str | None, typer.Option(help="Address to listen on; ATTUNE_HOST, else 127.0.0.1.")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on; ATTUNE_PORT, else 8000.")] = None,
    print_config: Annotated[bool, typer.Option(help="Show the settings, secrets redacted, and stop.")] = False,
) -> None:
    """Run the service.

    Example: attune serve --port 8080
    """
    settings = load_settings(host=host, port=port)
    if print_config:
        typer.echo(json.dumps(settings.redacted(), indent=2))
        return
    from app.server import run

    run(settings)


@cli.command()
def migrate() -> None:
    """Bring the database to this release's schema.

    Example: ATTUNE_DATABASE_URL=postgresql://attune@db/attune attune migrate
    """
    from app.storage.migrations import newest_revision

    settings = load_settings(needs_token=False)
    asyncio.run(_migrate(settings))
    typer.echo(f"The database is at schema {newest_revision()}.")


async def _migrate(settings: Settings) -> None:
    from app.storage.database import Database
    from app.storage.migrations import upgrade

    database = Database(settings.database)
    try:
        await upgrade(database)
    finally:
        await database.close()


def main() -> None:
    """Run the command line; an error of ours is one line, not a stack."""
    try:
        cli()
    except AttuneError as error:
        typer.echo(f"attune: {error.message}", err=True)
        raise SystemExit(1) from None


if __name__ == "__main__":
    main()
