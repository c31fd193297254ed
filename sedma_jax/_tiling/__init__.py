"""Tiling: how a matrix is cut into what crossbar arrays hold."""
