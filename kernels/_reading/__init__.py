"""Reading: products of arrays, converters, and the resistance of lines."""
