"""Placement of agents, and controllers of a deployment."""
