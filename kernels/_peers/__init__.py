"""Peers: their scores, simulated networks, and the utility of cache entries."""
