"""Studies: one function measured at many points, into a table, resumable.

    def measure(device, size, bits, seed):
        write_key, read_key = jax.random.split(jax.random.key(seed))
        crossbar, _ = sj.program(A, device, array=size, key=write_key)
        Y = sj.matvec(crossbar, X, adc=sj.ADC(bits), key=read_key)
        return {"error": jnp.linalg.norm(Y - exact) / jnp.linalg.norm(exact)}

    points = sj.study.grid(
        device=sj.devices.PRESETS, size=[32, 64], bits=[4, 6, 8], seed=range(5)
    )
    table = sj.study.run(measure, points, file="study.jsonl")
    print(sj.study.average(table, over="seed"))

Parameters that `measure` takes as traced numbers, here devices, bits and seeds, are mapped
over by `jax.vmap`: a few compiled programs serve all points, here one for each size.
`pandas.DataFrame` takes the table as it is.
"""

from .._dir import later_names

__dir__ = later_names(globals())

from ._points import Named as Named, Range as Range, grid as grid, random as random
from ._run import run as run
from ._table import (
    Table as Table,
    average as average,
    columns as columns,
    pareto as pareto,
    select as select,
)
