"""Peers: their scores, simulated networks of them, and what a cache keeps."""
