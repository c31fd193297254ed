"""Programming schemes: what brings the cells of an array to their targets."""
