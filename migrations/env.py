"""Alembic's entry: run the migrations on the engine that `jobrunner.store.migrations` hands over."""

from alembic import context
from sqlalchemy import Engine

from jobrunner.store.tables import metadata

engine: Engine = context.config.attributes["engine"]

with engine.connect().execution_options(synchronous="FULL") as connection:
    # Batch mode: SQLite alters a table by copying it.
    context.configure(
        connection=connection, target_metadata=metadata, render_as_batch=True, compare_type=True
    )
    with context.begin_transaction():
        context.run_migrations()
