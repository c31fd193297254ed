"""What NNX models need besides layers; the extra `flax`."""
