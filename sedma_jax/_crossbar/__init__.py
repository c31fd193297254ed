"""Programmed crossbars, their converters, and the effects that act on them."""
