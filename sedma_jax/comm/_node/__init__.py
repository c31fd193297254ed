"""A node: its parts, its upkeep, and how other processes command it."""
