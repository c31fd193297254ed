"""Placements of agents on nodes: their cost, and annealing."""
