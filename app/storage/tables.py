"""The schema as SQLAlchemy tables, with the invariants as constraints. Knows no queries.

``sequence`` columns keep the order of writing; a reset remembers the last sequence it leaves out of later reads.
"""

from datetime import UTC, datetime

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    DateTime,
    Float,
    ForeignKey,
    Identity,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
)
from sqlalchemy.engine import Dialect
from sqlalchemy.types import TypeDecorator

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
        "pk": "pk_%(table_name)s",
    }
)


class UtcDateTime(TypeDecorator[datetime]):
    """A moment in UTC; SQLite, which keeps no time zone, gives it back with one."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002
        """Turn any aware time into UTC; a naive one is a programming error."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError(f"Time {value} has no time zone.")
        return value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002
        """Attach UTC where the database dropped it."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


def _sequence() -> Column[int]:
    """A number that grows with every row of its table and is never used again."""
    integer = BigInteger().with_variant(Integer, "sqlite")
    return Column("sequence", integer, Identity(always=False), primary_key=True)


def _user() -> Column[str]:
    """The owner of a row; the row goes when its owner goes."""
    return Column("user_id", String(64), ForeignKey("users.id", ondelete="CASCADE"), nullable=False)


users = Table(
    "users",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("about", Text),
    Column("consent", Boolean, nullable=False),
    Column("metadata", JSON, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("updated_at", UtcDateTime, nullable=False),
)

questionnaires = Table(
    "questionnaires",
    metadata,
    Column("id", String(64), primary_key=True),
    _user(),
    Column("basis_version", String(64), nullable=False),
    Column("max_questions", Integer, nullable=False),
    Column("target_certainty", Float(53)),
    Column("topic", Text),
    Column("status", String(16), nullable=False),
    Column("stop_reason", String(32)),
    Column("created_at", UtcDateTime, nullable=False),
    Column("batch_size", Integer, nullable=False, server_default="1"),
    Column("source", String(16), nullable=False, server_default="pool"),
    Column("prompts", JSON, nullable=False, server_default="[]"),
    CheckConstraint("status IN ('active', 'complete')", name="status"),
    CheckConstraint("(status = 'complete') = (stop_reason IS NOT NULL)", name="stop_reason"),
    Index(None, "user_id"),
)

questions = Table(
    "questions",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("questionnaire_id", String(64), ForeignKey("questionnaires.id", ondelete="CASCADE"), nullable=False),
    Column("position", Integer, nullable=False),
    Column("topic", Text, nullable=False),
    Column("prompt_id", Text, nullable=False),
    Column("prompt", Text, nullable=False),
    Column("first", Text, nullable=False),
    Column("second", Text, nullable=False),
    Column("swapped", Boolean, nullable=False),
    Column("expected_information_bits", Float(53), nullable=False),
    Column("answer", String(8)),
    Column("latency_ms", Integer),
    Column("pool_number", Integer),
    Column("basis_version", String(64), nullable=False, server_default=""),
    Column("differences", JSON, nullable=False, server_default="[]"),
    CheckConstraint("answer IN ('first', 'second', 'tie', 'skip')", name="answer"),
    UniqueConstraint("questionnaire_id", "position"),
)

comparisons = Table(
    "comparisons",
    metadata,
    _sequence(),
    Column("id", String(64), nullable=False),
    _user(),
    Column("question_id", String(64), ForeignKey("questions.id", ondelete="CASCADE")),
    Column("prompt", JSON, nullable=False),
    Column("first", Text, nullable=False),
    Column("second", Text, nullable=False),
    Column("preferred", String(8), nullable=False),
    Column("basis_version", String(64), nullable=False),
    Column("differences", JSON, nullable=False),
    Column("source", String(16), nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    CheckConstraint("preferred IN ('first', 'second', 'tie')", name="preferred"),
    UniqueConstraint("id"),
    UniqueConstraint("question_id"),
    Index(None, "user_id", "sequence"),
    sqlite_autoincrement=True,
)

adjustments = Table(
    "adjustments",
    metadata,
    _sequence(),
    Column("id", String(64), nullable=False),
    _user(),
    Column("basis_version", String(64), nullable=False),
    Column("axis", Integer, nullable=False),
    Column("delta", Float(53), nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    UniqueConstraint("id"),
    Index(None, "user_id", "sequence"),
    sqlite_autoincrement=True,
)

preference_resets = Table(
    "preference_resets",
    metadata,
    _sequence(),
    _user(),
    Column("last_comparison", BigInteger, nullable=False),
    Column("last_adjustment", BigInteger, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Index(None, "user_id", "sequence"),
    sqlite_autoincrement=True,
)
