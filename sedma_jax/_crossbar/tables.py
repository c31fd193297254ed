"""Crossbars as plain columns and labelled arrays, for other libraries."""

from typing import Any

import numpy as np

from .crossbar import Crossbar, check_crossbar

_POLARITIES = {1: ("single",), 2: ("positive", "negative")}


def cell_columns(crossbar: Crossbar) -> dict[str, np.ndarray]:
    """A row for each cell that holds a part of the matrix, as columns of NumPy.

    `pandas.DataFrame(sj.cell_columns(crossbar))` is a frame. The columns:

    - `tile`, `polarity`, `word_line`, `bit_line`: the cell; "positive" or "negative" of a
        pair, or "single".
    - `input`, `output`: column and row of the matrix.
    - `conductance`: in siemens.

    **Raises:** `ValueError` for what is no `Crossbar`; of a pool, each bank has one.

    **Example:**

        >>> crossbar = sj.program_exactly(np.diag([1.0, -1.0]), "epiram", array=4)
        >>> cells = sj.cell_columns(crossbar)
        >>> len(cells["tile"])  # 2 x 2 weights of two cells
        8
        >>> high = cells["conductance"] > 0.9 * sj.devices.EPIRAM.g_max
        >>> [str(polarity) for polarity in cells["polarity"][high]]
        ['positive', 'negative']
    """
    check_crossbar("cell_columns", crossbar=crossbar)
    g = np.asarray(crossbar.conductance)
    tile, polarity, word_line, bit_line = np.indices(g.shape).reshape(4, -1)
    rows, cols = crossbar.array
    column = np.asarray(crossbar.inputs)[tile] * rows + word_line
    row = np.asarray(crossbar.outputs)[tile] * cols + bit_line
    m, n = crossbar.shape
    used = (row < m) & (column < n)
    every = {
        "tile": tile,
        "polarity": np.array(_POLARITIES[g.shape[1]])[polarity],
        "word_line": word_line,
        "bit_line": bit_line,
        "input": column,
        "output": row,
        "conductance": g.ravel(),
    }
    return {name: values[used] for name, values in every.items()}


def labelled_arrays(crossbar: Crossbar) -> dict[str, Any]:
    """The arrays of a crossbar with the names of their axes, and units.

    This is the form that `xarray.Dataset.from_dict` takes: `data_vars` has `conductance` in
    siemens, `weight`, what each cell or pair multiplies with, in units of `scale`, and
    `scale`, the factor of each bit line; each with its `dims` and its `data`, an array of
    NumPy. Cells that hold no weight are there too.

    **Raises:** `ValueError` for what is no `Crossbar`; of a pool, each bank has one.

    **Example:**

        >>> crossbar = sj.program_exactly(np.eye(4), "epiram", array=4)
        >>> arrays = sj.labelled_arrays(crossbar)
        >>> arrays["data_vars"]["conductance"]["dims"]
        ('tile', 'polarity', 'word_line', 'bit_line')
        >>> arrays["data_vars"]["scale"]["data"].shape
        (1, 4)
    """
    check_crossbar("labelled_arrays", crossbar=crossbar)
    lines = ("tile", "word_line", "bit_line")

    def labelled(dims: tuple[str, ...], data: Any, **attributes: str) -> dict[str, Any]:
        return {"dims": dims, "data": np.asarray(data), "attrs": attributes}

    g = crossbar.conductance
    return {
        "coords": {
            "polarity": labelled(("polarity",), _POLARITIES[g.shape[1]]),
            "input_block": labelled(("tile",), crossbar.inputs),
            "output_block": labelled(("tile",), crossbar.outputs),
        },
        "dims": dict(zip(("tile", "polarity", *lines[1:]), g.shape, strict=True)),
        "data_vars": {
            "conductance": labelled(("tile", "polarity", *lines[1:]), g, units="S"),
            "weight": labelled(lines, crossbar.weights),
            "scale": labelled(("tile", "bit_line"), crossbar.scale),
        },
        "attrs": {"shape": list(crossbar.shape), "slices": crossbar.slices},
    }
