"""Files of matrices and vectors: read without trust, written whole or not at all."""

from .load import load_matrix as load_matrix, load_vector as load_vector
