"""Cells: a device, its pulses, what happens to its conductance, how weights map to it."""
