"""A workflow on a cluster: roll-out, controller, measurement, recompilation."""
