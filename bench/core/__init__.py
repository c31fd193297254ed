"""Time and accuracy of the core: noise, programming, products, solvers."""
