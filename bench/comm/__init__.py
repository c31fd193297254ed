"""Nodes that talk over libp2p, real and simulated."""
