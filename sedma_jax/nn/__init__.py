"""Turn the layers of a network analog, and train against the noise."""
