"""A node: its parts, and what it does for peers and without being asked."""
