"""Correction of products: first order, smoothing, and the choice of the parameter λ."""
