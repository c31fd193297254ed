"""Programming schemes, which bring the cells of an array to their targets."""
