"""Cells: devices, pulses, the statistics of conductances, and how weights map to cells."""
