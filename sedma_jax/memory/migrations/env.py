"""Run the steps on the connection that `sedma_jax.memory` holds, in its transaction."""

from alembic import context

context.configure(**context.config.attributes["configuration"])
context.run_migrations()
