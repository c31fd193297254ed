"""Benches, in folders by subject.

At the root of a checkout `python -m bench.FOLDER.NAME` runs one alone, and `sedma bench
run NAME` runs it as the report does.
"""
