"""Runs the revisions on the connection that `attune migrate` (or a developer's `alembic`) hands over."""

from pathlib import Path

from alembic import context
from sqlalchemy import Connection, create_engine, text

from app.storage.tables import metadata

MIGRATION_LOCK = 7_160_453_001


def run(connection: Connection) -> None:
    """Run in one transaction; on PostgreSQL an advisory lock lets only one process migrate at a time."""
    context.configure(
        connection=connection,
        target_metadata=metadata,
        render_as_batch=connection.dialect.name == "sqlite",
        compare_type=True,
    )
    with context.begin_transaction():
        if connection.dialect.name == "postgresql":
            connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": MIGRATION_LOCK})
        context.run_migrations()


handed_over = context.config.attributes.get("connection")
if handed_over is not None:
    run(handed_over)
else:
    Path(".attune").mkdir(exist_ok=True)
    with create_engine("sqlite:///.attune/development.db").connect() as own:
        run(own)
        own.commit()
