"""Simulate RRAM in-memory computing in JAX."""

from importlib.metadata import version

from . import devices as devices

__version__ = version("sedma-jax")
