"""batches of questions, and questions that the engine wrote.

Only adds and drops columns: SQLite would delete answers with their questions where a table is made anew.
"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("questionnaires", sa.Column("batch_size", sa.Integer(), nullable=False, server_default="1"))
    op.add_column("questionnaires", sa.Column("source", sa.String(16), nullable=False, server_default="pool"))
    op.add_column("questionnaires", sa.Column("prompts", sa.JSON(), nullable=False, server_default="[]"))
    op.drop_index("uq_questions_open", table_name="questions")
    op.add_column("questions", sa.Column("pool_number", sa.Integer(), nullable=True))
    op.execute("UPDATE questions SET pool_number = pair_number")
    op.drop_column("questions", "pair_number")
    op.add_column("questions", sa.Column("basis_version", sa.String(64), nullable=False, server_default=""))
    op.add_column("questions", sa.Column("differences", sa.JSON(), nullable=False, server_default="[]"))


def downgrade() -> None:
    """Earlier releases ask one question at a time: of several open ones, all but the first become skipped.

    They also cannot continue a questionnaire that waits for the engine: one without an open question ends.
    """
    op.execute(
        "UPDATE questionnaires SET status = 'complete', stop_reason = 'low_information' WHERE status = 'active' "
        "AND NOT EXISTS (SELECT 1 FROM questions WHERE questionnaire_id = questionnaires.id AND answer IS NULL)"
    )
    op.add_column("questions", sa.Column("pair_number", sa.Integer(), nullable=False, server_default="0"))
    op.execute("UPDATE questions SET pair_number = COALESCE(pool_number, 0)")
    op.execute(
        "UPDATE questions SET answer = 'skip' WHERE answer IS NULL AND position > (SELECT MIN(other.position) FROM "
        "questions AS other WHERE other.questionnaire_id = questions.questionnaire_id AND other.answer IS NULL)"
    )
    for column in ("pool_number", "basis_version", "differences"):
        op.drop_column("questions", column)
    op.create_index(
        "uq_questions_open",
        "questions",
        ["questionnaire_id"],
        unique=True,
        sqlite_where=sa.text("answer IS NULL"),
        postgresql_where=sa.text("answer IS NULL"),
    )
    for column in ("batch_size", "source", "prompts"):
        op.drop_column("questionnaires", column)
