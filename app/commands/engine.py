"""``attune engine``: run the inference server, or prepare a checkpoint for one."""

import json
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(help="Run the inference server: a language model with its basis rewards, which knows no users.")


@app.callback(invoke_without_command=True)
def engine(
    context: typer.Context,
    host: Annotated[str | None, typer.Option(help="Address to listen on; ATTUNE_HOST, else 127.0.0.1.")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on; ATTUNE_PORT, else 8001.")] = None,
    print_config: Annotated[bool, typer.Option(help="Show the settings, secrets redacted, and stop.")] = False,
) -> None:
    """Run the inference server; ``ATTUNE_ENGINE__…`` say which.

    Example: attune engine --port 8001
    """
    if context.invoked_subcommand is not None:
        return
    from app.config import load_engine_settings

    settings = load_engine_settings(host=host, port=port)
    if print_config:
        typer.echo(json.dumps(settings.redacted(), indent=2))
        return
    from app.server import run_engine

    run_engine(settings)


@app.command()
def export(
    out: Annotated[Path, typer.Option(help="Checkpoint directory to write.")],
    value_heads: Annotated[
        bool, typer.Option(help="Export the value heads too, for attune's own vllm backend.")
    ] = False,
) -> None:
    """Write the model with its basis rewards as virtual tokens, for any server of checkpoints.

    Example: attune engine export --out runs/with-rewards
    """
    from app.config import load_settings
    from app.errors import ArtifactError
    from app.rewards.artifact import load_basis
    from app.rewards.export import export_checkpoint
    from app.rewards.values import load_values, values_directory

    settings = load_settings(needs_token=False).engine
    found = values_directory(settings.basis) if value_heads else None
    if value_heads and found is None:
        raise ArtifactError(f"The basis in {settings.basis} has no value heads; fit some with 'attune basis values'.")
    values = None if found is None else load_values(found)
    described = export_checkpoint(settings.model, load_basis(settings.basis), out, values=values)
    rows = described.rows
    typer.echo(f"Wrote {out}: basis {described.basis_version}, virtual tokens {rows.first} to {rows.end - 1}.")
