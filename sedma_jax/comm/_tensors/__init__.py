"""Tensors between peers: manifests, stores, fetching, the choice of peers."""
