"""Files of matrices and vectors: read without trust, written whole or not at all."""
