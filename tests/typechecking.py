"""Runtime type checks of the test run: an int may go where a float is annotated.

So say PEP 484 and pyright, but not `beartype.beartype` as it comes.
"""

from beartype import BeartypeConf, beartype

check = beartype(conf=BeartypeConf(is_pep484_tower=True))
