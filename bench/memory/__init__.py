"""Long-term and short-term memory, and the partitions chosen with their help."""
