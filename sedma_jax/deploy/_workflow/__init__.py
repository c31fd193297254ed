"""The workflow and the cluster as their files describe them."""
