"""Read the data sets of the paper, and what comes with packages."""
