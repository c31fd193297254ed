"""`python -m sedma_jax._cli`: the `sedma` command without its script."""

import sys

from .main import main

sys.exit(main())
