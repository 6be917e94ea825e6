"""Alembic's entry: runs the migrations on the connection that `store.migrate` hands over."""

from alembic import context

from sky.store.schema import METADATA

context.configure(connection=context.config.attributes["connection"], target_metadata=METADATA, render_as_batch=True)
context.run_migrations()
