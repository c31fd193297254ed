"""Parse Matrix Market text (Boisvert, Pozo & Remington 1996, NISTIR 5935).

`scipy.io.mmread` is ten times faster, but it reads `1D3` as 1 and `1,5` as 1, and
bytes after the last number crash the interpreter (scipy/scipy#19949).
"""

import io
import re

import numpy as np
from scipy.sparse import coo_array, csr_array

from .refusal import FileRefusal, check_count, check_shape

_BANNER = re.compile(
    rb"%%MatrixMarket\s+matrix\s+(coordinate|array)\s+(\S+)\s+(\S+)\s*", re.IGNORECASE
)
# The sign with which each symmetry mirrors an entry across the diagonal; 0 for none.
_MIRROR = {"general": 0, "symmetric": 1, "skew-symmetric": -1}
_MOST_COMMENTS = 2**20  # bytes before the size line
_EXACT = 2**53  # whole numbers up to here are exact in float64
_FIELDS = ("real", "double", "integer", "pattern")


def parse_matrix_market(text: bytes) -> np.ndarray | csr_array:
    """Parse real, integer and pattern matrices of every real symmetry.

    Duplicate entries are summed, symmetric ones mirrored, pattern entries are ones.

    **Arguments:**

    - `text`: contents of the file.

    **Returns:**

    A float64 `csr_array` for the coordinate format, an array for the array format.

    **Raises:**

    - `FileRefusal`: if the text is not such a matrix.
    """
    first, _, rest = text.partition(b"\n")
    banner = _BANNER.fullmatch(first)
    if banner is None:
        raise FileRefusal(
            "the first line `%%MatrixMarket matrix coordinate|array FIELD SYMMETRY`",
            repr(first[:60])[1:],
            "Write the file with `scipy.io.mmwrite`.",
        )
    layout, field, symmetry = (word.decode("latin1").lower() for word in banner.groups())
    sparse = layout == "coordinate"
    if field not in _FIELDS or (field == "pattern" and not sparse):
        raise FileRefusal(
            "a real, integer or (coordinate) pattern matrix",
            f"{layout} {field!r}",
            "Save the real part.",
        )
    if symmetry not in _MIRROR:
        raise FileRefusal(
            f"one of the symmetries {', '.join(_MIRROR)}",
            repr(symmetry),
            "Save the matrix as `general`.",
        )
    rows, cols, stored, body = _size_line(rest, sparse)
    check_shape((rows, cols))
    mirror = _MIRROR[symmetry]
    if mirror and rows != cols:
        raise FileRefusal(
            f"a square matrix where the first line says {symmetry}",
            f"{rows} by {cols}",
            "Save the matrix as `general`.",
        )
    if not sparse:
        check_count(rows * cols)
        stored = rows * (rows + mirror) // 2 if mirror else rows * cols
    columns = 1 if not sparse else 2 if field == "pattern" else 3
    table = _numbers(body, stored, columns)
    if field == "integer":
        _check_whole(table[:, -1])
    if sparse:
        return _coordinate(table, rows, cols, mirror)
    return _array(table[:, 0], rows, cols, mirror)


def _size_line(rest: bytes, sparse: bool) -> tuple[int, int, int, bytes]:
    """Rows, columns, stored entries (0 for the array format), and the lines after them."""
    start = 0
    while start < min(len(rest), _MOST_COMMENTS):
        end = rest.find(b"\n", start)
        end = len(rest) if end < 0 else end
        line = rest[start:end].strip()
        start = end + 1
        if line and not line.startswith(b"%"):
            words = line.split()
            # Eighteen digits fit any integer type.
            if len(words) == 2 + sparse and all(
                word.isdigit() and len(word) <= 18 for word in words
            ):
                rows, cols, *stored = map(int, words)
                return rows, cols, stored[0] if sparse else 0, rest[start:]
            break
    else:
        if start < len(rest):
            raise FileRefusal(
                f"a size line within {_MOST_COMMENTS:,} bytes of comments",
                "more comments",
                "Leave some of them out.",
            )
        line = b""
    raise FileRefusal(
        f"the size line `ROWS COLS{' ENTRIES' if sparse else ''}`",
        repr(line[:60])[1:],
        "Write the file with `scipy.io.mmwrite`.",
    )


def _numbers(body: bytes, count: int, columns: int) -> np.ndarray:
    """Read `count` lines of `columns` numbers."""
    check_count(count)
    if not body or body.isspace():
        table = np.empty((0, columns))
    else:
        try:
            table = np.loadtxt(
                io.BytesIO(body), np.float64, comments=None, ndmin=2, encoding="latin1"
            )
        except ValueError as error:
            raise FileRefusal(
                f"{columns} plain decimal numbers on each line of entries",
                f"an entry that NumPy cannot read ({str(error).partition(';')[0]})",
                "Write the file with `scipy.io.mmwrite`.",
            ) from error
    if table.shape[1] != columns:
        raise FileRefusal(
            f"{columns} plain decimal numbers on each line of entries",
            f"{table.shape[1]}",
            "Check the field that the first line names.",
        )
    if table.shape[0] != count:
        raise FileRefusal(
            f"the {count:,} entries that its size line promises",
            f"{table.shape[0]:,}",
            "Copy the file again, or mend the size line.",
        )
    return table


def _check_whole(values: np.ndarray) -> None:
    whole = (values == np.floor(values)) & (np.abs(values) <= _EXACT)
    if not whole.all():
        entry = int(np.argmin(whole))
        raise FileRefusal(
            f"whole numbers of at most {_EXACT} in magnitude where the first line says "
            "integer",
            f"{values[entry]:.17g} in entry {entry + 1}",
            "Mend the entry, or say `real`.",
        )


def _check_one_half(row: np.ndarray, col: np.ndarray) -> None:
    """Refuse entries on both sides of the diagonal, whose mirror images would add up."""
    place = np.minimum(row, col).astype(np.int64) << 32 | np.maximum(row, col)
    both = np.intersect1d(place[row > col], place[row < col])
    if both.size:
        one, other = int(both[0] >> 32) + 1, int(both[0] & 0xFFFFFFFF) + 1
        raise FileRefusal(
            "one half of the matrix where the first line says that it is symmetric or "
            "skew-symmetric",
            f"both entry {one} {other} and entry {other} {one}",
            "Leave one half out, or save the matrix as `general`.",
        )


def _coordinate(table: np.ndarray, rows: int, cols: int, mirror: int) -> csr_array:
    places = table[:, :2]
    inside = (places >= 1) & (places <= (rows, cols)) & (places == np.floor(places))
    if not inside.all():
        entry = int(np.argmin(inside.all(axis=1)))
        raise FileRefusal(
            f"whole row and column numbers from 1 1 to {rows} {cols}",
            "{:.17g} {:.17g} in entry {}".format(*places[entry], entry + 1),
            "Mend the entry or the size line.",
        )
    row, col = places.astype(np.int32).T - 1
    values = table[:, 2] if table.shape[1] == 3 else np.ones(len(table))
    if mirror:
        off = row != col
        if mirror < 0 and not off.all():
            raise FileRefusal(
                "no diagonal entries where the first line says skew-symmetric",
                f"one in row {row[~off][0] + 1}",
                "The diagonal of such a matrix is zero: leave it out.",
            )
        _check_one_half(row, col)
        row, col = np.concatenate([row, col[off]]), np.concatenate([col, row[off]])
        values = np.concatenate([values, mirror * values[off]])
    return csr_array(coo_array((values, (row, col)), shape=(rows, cols)))


def _array(values: np.ndarray, rows: int, cols: int, mirror: int) -> np.ndarray:
    if not mirror:
        return np.ascontiguousarray(values.reshape(cols, rows).T)
    # The file lists each column from the diagonal down, so the transpose lists each row
    # of its upper triangle.
    matrix = np.zeros((rows, cols))
    matrix.T[np.triu_indices(rows, k=0 if mirror > 0 else 1)] = values
    return matrix + mirror * np.tril(matrix, -1).T
