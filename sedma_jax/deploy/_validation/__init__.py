"""Checks of manifests: schemas, and the rules of the API server beyond them."""
