"""Run lines of Python that come as JSON on stdin; see `conftest.OtherProcess`."""

import json
import os
import sys
import traceback

import sedma_jax as sj

names = {"sj": sj, "os": os}
for line in sys.stdin:
    try:
        exec(json.loads(line), names)
        answer = names.pop("answer", None)
    except Exception:
        answer = {"failed": traceback.format_exc()}
    print(json.dumps(answer), flush=True)
