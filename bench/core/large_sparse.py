"""Multiply by a matrix that is too large to store: the five-point stencil of a grid.

    python -m bench.core.large_sparse [--side 255] [--device epiram] [--checkpoint FILE]

For a side of 255 the matrix is 65 025 x 65 025; dense, in float32, it would take 16.9 GB.
The product is corrected and streamed. The bench fails if errors or memory exceed their
limits.
"""

import resource
import time

import jax
import jax.random as jr
import numpy as np
import scipy.sparse

import sedma_jax as sj
from bench.shared import parser_of

LIMIT = 4e9  # bytes of resident memory of the whole process


def five_point_stencil(side: int) -> scipy.sparse.csr_array:
    """Minus the Laplacian of a square grid, with zero values around it."""
    line = scipy.sparse.diags_array(
        [-1.0, 2.0, -1.0], offsets=[-1, 0, 1], shape=(side, side)
    )
    one = scipy.sparse.eye_array(side)
    stencil = scipy.sparse.kron(line, one) + scipy.sparse.kron(one, line)
    return stencil.tocsr().astype(np.float32)


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--side", type=int, default=255)
    parser.add_argument("--device", choices=sj.devices.PRESETS, default="epiram")
    parser.add_argument("--checkpoint", metavar="FILE")
    options = parser.parse_args()
    A = five_point_stencil(options.side)
    n = A.shape[0]
    grid = np.linspace(0, np.pi, options.side, dtype=np.float32)
    x = (np.sin(grid)[:, None] * np.cos(3 * grid) + 0.1).ravel()
    device = sj.devices.PRESETS[options.device]
    start = time.perf_counter()
    y, info = sj.stream_corrected_matvec(
        A, x, device, checkpoint=options.checkpoint, key=jr.key(0)
    )
    y = np.asarray(y)
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    tiles = len(info.stats.per_array.pulses)
    exact = A.astype(np.float64) @ x
    error = np.linalg.norm(y - exact) / np.linalg.norm(exact)
    print(f"device {jax.devices()[0]}, jax {jax.__version__}, float32")
    print(f"matrix {n} x {n}, {A.nnz} nonzeros; dense {4e-9 * n * n:.1f} GB")
    print(f"tiles {tiles} of {(-(-n // 256)) ** 2}, {4e-9 * tiles * 256**2:.2f} GB dense")
    print(f"time {seconds:.1f} s, {1e3 * seconds / tiles:.1f} ms per tile")
    print(f"peak resident memory {peak / 1e9:.2f} GB")
    print(f"relative error raw {info.relative_l2_raw:.3g}, corrected {error:.3g}")
    print(f"pulses {info.stats.pulses:.4g}, write energy {info.stats.write_energy:.4g} J")
    assert error < 0.01
    assert error < info.relative_l2_raw
    assert peak < LIMIT


if __name__ == "__main__":
    main()
