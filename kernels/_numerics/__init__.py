"""Random numbers from counters, and compilation for wide vectors."""
