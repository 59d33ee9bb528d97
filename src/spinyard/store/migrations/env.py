"""Run by alembic inside `spinyard.store.migrate.upgrade`, which gives the connection and owns the transaction."""

from alembic import context

from spinyard.store.schema import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    transactional_ddl=False,
    transaction_per_migration=False,
)
context.run_migrations()
