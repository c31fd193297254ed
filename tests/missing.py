"""What a test does for want of a counterpart: it fails in CI, and is skipped elsewhere."""

import os
from typing import NoReturn

import pytest


def missing(what: str, error: Exception | None = None) -> NoReturn:
    """Skip a test, or fail it under SEDMA_REQUIRE_SERVICES=1."""
    if os.environ.get("SEDMA_REQUIRE_SERVICES") == "1":
        raise error or RuntimeError(what)
    pytest.skip(f"{what}: {error}" if error else what)
