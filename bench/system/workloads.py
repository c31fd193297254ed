"""Three workloads on matrices of 1024 rows and more: ours, a fixed tiling, exact products.

    python -m bench.system.workloads [--seeds 10] [--rivals PYTHON] [--results DIR]

They stand in for the paper's, with data that packages bring:

- image: 1024 patches of 32 x 32 of a photograph, a quarter of them as they are, the others
  shifted, mirrored, or both; a product filters them.
- classification: the Gaussian kernel of 1024 digits; a product gives the scores of a class,
  by weights of kernel ridge regression.
- question answering: the widest layer of MiniLM, 1536 x 384; a product takes the vector of
  a word.

Every matrix is programmed and multiplied twice from an empty memory, with a key of its own
each time; the last product counts. Every seed runs twice, and the second run, which finds
every tiling compiled, counts. Memory efficiency and throughput are those of `system.py`,
means over the workloads; the error is that of the corrected product, relative to float64.
Ray and torch.distributed multiply the same matrices exactly, on CPUs.
"""

import tempfile
import time

import jax
import numpy as np

import sedma_jax as sj
from bench.memory.partition_memory import POOL
from bench.shared import add_rivals, machine, parser_of, write_json
from bench.system.system import VARIANTS, baselines
from sedma_jax import data
from sedma_jax.memory import ShortTerm, adaptive_matvec

ARMS = ("full", "static RRAM")
ROWS, SIDE, REPETITIONS = 1024, 32, 2


def image():
    """Patches, side by side in columns of the photograph, and a filter."""
    pixels = data.photograph("camera")[..., 0] / 255
    blocks = pixels.reshape(16, SIDE, 16, SIDE).swapaxes(1, 2)
    shifted = np.roll(pixels, 16, axis=1).reshape(16, SIDE, 16, SIDE).swapaxes(1, 2)
    mirrored = [b[..., ::-1] for b in (blocks, shifted)]
    patches = np.concatenate([blocks, shifted, *mirrored]).reshape(ROWS, SIDE * SIDE)
    at = np.linspace(-2, 2, SIDE)
    return patches, np.outer(np.exp(-(at**2)), np.exp(-(at**2))).ravel()


def classification():
    """The kernel of digits, and the weights that tell zeros from the others."""
    digits = data.digits()
    x = np.asarray(digits.images[:ROWS], float).reshape(ROWS, -1)
    x /= x.max()
    squares = np.sum(x**2, 1)
    kernel = np.exp(-(squares[:, None] + squares[None] - 2 * x @ x.T) / 8)
    target = np.where(np.asarray(digits.labels[:ROWS]) == 0, 1.0, -1.0)
    return kernel, np.linalg.solve(kernel + 1e-2 * np.eye(ROWS), target)


def question_answering():
    """The first feed-forward layer of MiniLM, and the vector of a word."""
    encoder, _ = data.load_sentence_encoder()
    return encoder.layers[0].fc1.weight, encoder.words.weight[2054]


WORKLOADS = {
    "image": image,
    "classification": classification,
    "question answering": question_answering,
}


def once(given, arm, seed, url):
    """Efficiency, throughput and an error per workload, for the last repetition."""
    memory, short_term = sj.memory.open(url), ShortTerm()
    held = reserved = seconds = 0.0
    errors = {}
    for number, (name, (A, x)) in enumerate(given.items()):
        for repetition in range(REPETITIONS):
            key = jax.random.key(1000 * seed + 10 * number + repetition)
            start = time.perf_counter()
            y, info, short_term = adaptive_matvec(
                A,
                x,
                POOL,
                memory=memory,
                short_term=short_term,
                ablation=VARIANTS[arm],
                pressure=0.5,
                key=key,
            )
            y = np.asarray(y)
            took = time.perf_counter() - start
        exact = A.astype(np.float64) @ x
        errors[name] = float(np.linalg.norm(y - exact) / np.linalg.norm(exact))
        held += info.plan.memory_efficiency * info.plan.cells_reserved
        reserved += info.plan.cells_reserved
        seconds += took
    memory.close()
    return {"efficiency": held / reserved, "throughput": len(given) / seconds} | errors


def main():
    """Measure and write `workloads.json`."""
    parser = parser_of(__doc__, seeds=10, results=True)
    add_rivals(parser, default=None)
    options = parser.parse_args()
    about, given, skipped = machine(), {}, {}
    for name, make in WORKLOADS.items():
        try:
            given[name] = tuple(np.asarray(v, np.float32) for v in make())
        except ModuleNotFoundError as error:
            skipped[name] = str(error)
            print(f"{name}: {error}")
    rows = {arm: [] for arm in ARMS}
    with tempfile.TemporaryDirectory() as folder:
        for seed in range(options.seeds):
            for arm in ARMS:
                for turn in ("cold", "warm"):
                    url = f"sqlite:///{folder}/{turn}-{seed}-{arm}.db".replace(" ", "-")
                    row = once(given, arm, seed, url)
                rows[arm].append(row)
                print(seed, arm, row, flush=True)
    figures = {
        arm: {of: [r[of] for r in made] for of in made[0]} for arm, made in rows.items()
    }
    exact, missing = baselines(
        options.rivals, [A for A, _ in given.values()], options.seeds
    )
    record = {
        "machine": about,
        "seeds": options.seeds,
        "shapes": {name: list(A.shape) for name, (A, _) in given.items()},
        "figures": figures | exact,
        "skipped": skipped | missing,
    }
    write_json(options.results / "workloads.json", record)


if __name__ == "__main__":
    main()
