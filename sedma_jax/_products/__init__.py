"""Corrected and streamed products."""
