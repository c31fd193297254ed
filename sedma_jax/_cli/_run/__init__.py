"""`sedma run`: its options, their checks, the products, and what is resumed."""
