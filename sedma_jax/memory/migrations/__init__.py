"""How the tables came to be, for Alembic: `env.py` runs the steps in `versions`."""
