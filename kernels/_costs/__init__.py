"""Energy, latency and area of a product, and the cost of a partition."""
