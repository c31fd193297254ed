"""Calls between peers, and their messages."""
