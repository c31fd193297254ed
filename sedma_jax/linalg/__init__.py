"""Solve linear systems with analog products, to digital accuracy."""
