"""Placing agents on nodes, and moving them later."""
