"""The type checker of the test run: `beartype`, which takes an int where a float may go.

So do PEP 484 and pyright; `beartype.beartype` itself does not.
"""

from beartype import BeartypeConf, beartype

check = beartype(conf=BeartypeConf(is_pep484_tower=True))
