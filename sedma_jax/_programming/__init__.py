"""Programming a matrix: once, in slices, on a pool of arrays, on a mesh of devices."""
