"""Compare the programming schemes at equal pulses, on bcsstk02.

    python -m bench.core.programming_schemes [--budget 10] [--seed 0] [--json]

The budget is a multiple of the pulses of open loop. Each scheme works for as many rounds as
its pulses stay within the budget, but at least for one; two slices share the budget.
Gradient programming starts from a train of pulses in open loop: from empty cells, its first
steps would be mostly noise. The columns are the rounds; `rms`, the distance of the weights
from their targets in units of the range of a cell; `mvm`, the relative l2 error of products
with a hundred vectors uniform in [0, 1), as a root mean square; pulses; reads, each of
which drives the word lines once; and the energies of pulses and of reads in joules. `rms`
and `mvm` are without read noise, which acts during verification only. Everything is in
double precision, on one array of 66 x 66.
"""

import dataclasses
import json
from functools import partial

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np

import sedma_jax as sj
from bench.shared import parser_of, read_matrix
from sedma_jax.devices import PRESETS

MOST_ROUNDS = 400


def _band(device, rounds):
    return sj.acceptance_band(device, iterations=rounds)


def _incautious(device, rounds):
    return sj.acceptance_band(device, caution=jnp.inf, iterations=rounds)


def _stagnation(device, rounds):
    del device
    return sj.stagnation(iterations=rounds)


def _from_open_loop(scheme):
    def program(target, initial, used, device, response, rule, *, key):
        first_key, then_key = jr.split(key)
        how = (used, device, response, rule)
        state, first = sj.open_loop(target, initial, *how, key=first_key)
        state, then = scheme(target, state, *how, key=then_key)
        total = jax.tree.map(jnp.add, first, then)
        # These describe the end state; the other fields add up over both parts.
        last = dict(unfinished=then.unfinished, residual=then.residual)
        return state, dataclasses.replace(total, **last)

    return program


_SLICES = partial(sj.program_residual, slices=2)
SCHEMES = {
    "open loop": (sj.program, sj.open_loop, _band),
    "write-verify, band": (sj.program, sj.write_and_verify, _band),
    "w-v, no caution": (sj.program, sj.write_and_verify, _incautious),
    "write-verify, stagn.": (sj.program, sj.write_and_verify, _stagnation),
    "Hadamard verify": (sj.program, sj.hadamard_verify, _band),
    "gradient, batch R": (sj.program, _from_open_loop(sj.gradient_programming), _band),
    "gradient, batch 16 R": (
        sj.program,
        _from_open_loop(partial(sj.gradient_programming, vectors_per_row=16)),
        _band,
    ),
    "2 slices, band": (_SLICES, sj.write_and_verify, _band),
    "2 slices, Hadamard": (_SLICES, sj.hadamard_verify, _band),
}


def within_budget(program, budget):
    """The last of `program(1)`, `program(2)`, ... whose pulses stay within the budget."""
    low, high = 1, MOST_ROUNDS
    while low < high:
        middle = (low + high + 1) // 2
        if pulses(program(middle)[1]) <= budget:
            low = middle
        else:
            high = middle - 1
    return program(low)


def pulses(stats):
    return int(jnp.sum(stats.per_array.pulses))


def compare(budget, seed=0, sigmas=(0.0, 0.02), names=tuple(PRESETS)):
    """One record per material, read noise and scheme."""
    A = np.asarray(read_matrix("bcsstk02.mtx").todense(), np.float64)
    x = np.random.default_rng(seed).random((A.shape[1], 100))
    scale = np.abs(A).max(axis=1, keepdims=True)
    records = []
    for name in names:
        for sigma in sigmas:
            device = dataclasses.replace(PRESETS[name], sigma_read=sigma)
            limit = None
            for label, (program, scheme, rule) in SCHEMES.items():

                def run(rounds, program=program, scheme=scheme, rule=rule, device=device):
                    return program(
                        A,
                        device,
                        array=A.shape,
                        scheme=scheme,
                        rule=rule(device, rounds),
                        key=jr.key(seed),
                    )

                crossbar, stats = run(1) if limit is None else within_budget(run, limit)
                # Open loop is the first scheme, and sets the budget.
                limit = budget * pulses(stats) if limit is None else limit
                missed = np.asarray(sj.stored_matrix(crossbar)) - A
                each = stats.per_array
                records.append(
                    {
                        "device": name,
                        "sigma_read": sigma,
                        "scheme": label,
                        "rounds": int(jnp.max(each.iterations)),
                        "rms": float(np.sqrt(np.mean((missed / scale) ** 2))),
                        "mvm_error": float(
                            np.linalg.norm(missed @ x) / np.linalg.norm(A @ x)
                        ),
                        "pulses": pulses(stats),
                        "reads": round(float(jnp.sum(each.verify_latency)) / device.t_read),
                        "write_energy_j": float(stats.write_energy),
                        "verify_energy_j": float(stats.energy - stats.write_energy),
                    }
                )
    return records


def main():
    parser = parser_of(__doc__)
    parser.add_argument("--budget", type=float, default=10.0, help="times open loop")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    arguments = parser.parse_args()
    records = compare(arguments.budget, arguments.seed)
    if arguments.json:
        print(json.dumps({"budget": arguments.budget, "rows": records}))
        return
    case = None
    for r in records:
        if case != (r["device"], r["sigma_read"]):
            case = (r["device"], r["sigma_read"])
            print(f"\n{r['device']}, sigma_read = {r['sigma_read']:g}")
            print(
                f"{'scheme':20} {'rounds':>6} {'rms':>8} {'mvm':>8} {'pulses':>8}"
                f" {'reads':>8} {'write J':>8} {'verify J':>8}"
            )
        print(
            f"{r['scheme']:20} {r['rounds']:6} {r['rms']:8.2g} {r['mvm_error']:8.2g}"
            f" {r['pulses']:8,} {r['reads']:8,} {r['write_energy_j']:8.2g}"
            f" {r['verify_energy_j']:8.2g}"
        )


if __name__ == "__main__":
    jax.config.update("jax_enable_x64", True)
    main()
