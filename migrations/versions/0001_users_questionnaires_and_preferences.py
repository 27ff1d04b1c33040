"""users, questionnaires and preferences."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

SEQUENCE = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "users",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("about", sa.Text(), nullable=True),
        sa.Column("consent", sa.Boolean(), nullable=False),
        sa.Column("metadata", sa.JSON(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_users")),
    )
    op.create_table(
        "adjustments",
        sa.Column("sequence", SEQUENCE, sa.Identity(always=False), nullable=False),
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("user_id", sa.String(length=64), nullable=False),
        sa.Column("basis_version", sa.String(length=64), nullable=False),
        sa.Column("axis", sa.Integer(), nullable=False),
        sa.Column("delta", sa.Float(precision=53), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["user_id"], ["users.id"], name=op.f("fk_adjustments_user_id_users"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("sequence", name=op.f("pk_adjustments")),
        sa.UniqueConstraint("id", name=op.f("uq_adjustments_id")),
        sqlite_autoincrement=True,
    )
    op.create_index(op.f("ix_adjustments_user_id_sequence"), "adjustments", ["user_id", "sequence"], unique=False)
    op.create_table(
        "preference_resets",
        sa.Column("sequence", SEQUENCE, sa.Identity(always=False), nullable=False),
        sa.Column("user_id", sa.String(length=64), nullable=False),
        sa.Column("last_comparison", sa.BigInteger(), nullable=False),
        sa.Column("last_adjustment", sa.BigInteger(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["user_id"], ["users.id"], name=op.f("fk_preference_resets_user_id_users"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("sequence", name=op.f("pk_preference_resets")),
        sqlite_autoincrement=True,
    )
    op.create_index(
        op.f("ix_preference_resets_user_id_sequence"), "preference_resets", ["user_id", "sequence"], unique=False
    )
    op.create_table(
        "questionnaires",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("user_id", sa.String(length=64), nullable=False),
        sa.Column("basis_version", sa.String(length=64), nullable=False),
        sa.Column("max_questions", sa.Integer(), nullable=False),
        sa.Column("target_certainty", sa.Float(precision=53), nullable=True),
        sa.Column("topic", sa.Text(), nullable=True),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("stop_reason", sa.String(length=32), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint(
            "(status = 'complete') = (stop_reason IS NOT NULL)", name=op.f("ck_questionnaires_stop_reason")
        ),
        sa.CheckConstraint("status IN ('active', 'complete')", name=op.f("ck_questionnaires_status")),
        sa.ForeignKeyConstraint(
            ["user_id"], ["users.id"], name=op.f("fk_questionnaires_user_id_users"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_questionnaires")),
    )
    op.create_index(op.f("ix_questionnaires_user_id"), "questionnaires", ["user_id"], unique=False)
    op.create_table(
        "questions",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("questionnaire_id", sa.String(length=64), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("pair_number", sa.Integer(), nullable=False),
        sa.Column("topic", sa.Text(), nullable=False),
        sa.Column("prompt_id", sa.Text(), nullable=False),
        sa.Column("prompt", sa.Text(), nullable=False),
        sa.Column("first", sa.Text(), nullable=False),
        sa.Column("second", sa.Text(), nullable=False),
        sa.Column("swapped", sa.Boolean(), nullable=False),
        sa.Column("expected_information_bits", sa.Float(precision=53), nullable=False),
        sa.Column("answer", sa.String(length=8), nullable=True),
        sa.Column("latency_ms", sa.Integer(), nullable=True),
        sa.CheckConstraint("answer IN ('first', 'second', 'tie', 'skip')", name=op.f("ck_questions_answer")),
        sa.ForeignKeyConstraint(
            ["questionnaire_id"],
            ["questionnaires.id"],
            name=op.f("fk_questions_questionnaire_id_questionnaires"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_questions")),
        sa.UniqueConstraint("questionnaire_id", "position", name=op.f("uq_questions_questionnaire_id_position")),
    )
    op.create_index(
        "uq_questions_open",
        "questions",
        ["questionnaire_id"],
        unique=True,
        sqlite_where=sa.text("answer IS NULL"),
        postgresql_where=sa.text("answer IS NULL"),
    )
    op.create_table(
        "comparisons",
        sa.Column("sequence", SEQUENCE, sa.Identity(always=False), nullable=False),
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("user_id", sa.String(length=64), nullable=False),
        sa.Column("question_id", sa.String(length=64), nullable=True),
        sa.Column("prompt", sa.JSON(), nullable=False),
        sa.Column("first", sa.Text(), nullable=False),
        sa.Column("second", sa.Text(), nullable=False),
        sa.Column("preferred", sa.String(length=8), nullable=False),
        sa.Column("basis_version", sa.String(length=64), nullable=False),
        sa.Column("differences", sa.JSON(), nullable=False),
        sa.Column("source", sa.String(length=16), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("preferred IN ('first', 'second', 'tie')", name=op.f("ck_comparisons_preferred")),
        sa.ForeignKeyConstraint(
            ["question_id"], ["questions.id"], name=op.f("fk_comparisons_question_id_questions"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["user_id"], ["users.id"], name=op.f("fk_comparisons_user_id_users"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("sequence", name=op.f("pk_comparisons")),
        sa.UniqueConstraint("id", name=op.f("uq_comparisons_id")),
        sa.UniqueConstraint("question_id", name=op.f("uq_comparisons_question_id")),
        sqlite_autoincrement=True,
    )
    op.create_index(op.f("ix_comparisons_user_id_sequence"), "comparisons", ["user_id", "sequence"], unique=False)


def downgrade() -> None:
    for table in ("comparisons", "questions", "questionnaires", "preference_resets", "adjustments", "users"):
        op.drop_table(table)
