"""Three agents that solve A x = b by Jacobi's iteration; the system travels as JSON.

`front` takes the request, `solver` iterates and asks `checker` how far it is, and `front`
asks `checker` again before it answers.
"""

import json

SWEEPS = 5  # between two questions
MOST_QUESTIONS = 40
TOLERANCE = 1e-9


def front(request, call):
    """Answer `{"x", "residual"}` to `{"A", "b"}`."""
    system = json.loads(request)
    x = json.loads(call("solver", request))
    residual = json.loads(call("checker", json.dumps(system | {"x": x}).encode()))
    return json.dumps({"x": x, "residual": residual}).encode()


def solver(request, call):
    """Iterate until the checker is content."""
    system = json.loads(request)
    rows, b = system["A"], system["b"]
    x = [0.0] * len(b)
    for _ in range(MOST_QUESTIONS):
        for _ in range(SWEEPS):
            x = [
                (b[i] - sum(a * x[j] for j, a in enumerate(row) if j != i)) / row[i]
                for i, row in enumerate(rows)
            ]
        if json.loads(call("checker", json.dumps(system | {"x": x}).encode())) < TOLERANCE:
            break
    return json.dumps(x).encode()


def checker(request, call):
    """Answer the largest component of A x - b."""
    del call
    system = json.loads(request)
    rows = zip(system["A"], system["b"], strict=True)
    products = (
        sum(a * x for a, x in zip(row, system["x"], strict=True)) - b for row, b in rows
    )
    return json.dumps(max(map(abs, products))).encode()
