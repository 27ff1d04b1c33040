"""Persistence: SQLite by default, PostgreSQL in production, with one schema."""
