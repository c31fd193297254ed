"""Studies across several parts of the system."""
