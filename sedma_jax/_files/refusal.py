"""Why a file is refused, and the limits that no file may exceed."""

LARGEST_BYTES = 2**31
LARGEST_COUNT = 2**28  # stored numbers: 2 GiB as float64
LARGEST_SIDE = 2**24  # rows or columns: an index pointer of 64 MiB
LARGEST_RATIO = 200  # bytes unpacked per byte of a compressed file...
RATIO_FROM = 2**26  # ...once so many bytes are unpacked
MOST_MEMBERS = 4096  # arrays in an archive


class FileRefusal(Exception):
    """A file is not what was asked for; made of requirement, value received, remedy."""


def damaged(kind: str, error: Exception | str, writer: str) -> FileRefusal:
    """Refuse a file that a parser cannot read; the parser's message may quote the file."""
    said = " ".join(str(error).split())[:200].rstrip(".") or type(error).__name__
    said = "".join(character if character.isprintable() else "?" for character in said)
    return FileRefusal(
        f"an intact {kind} file",
        f"a parse error ({said})",
        f"Copy it again, or write it with `{writer}`.",
    )


def check_bytes(count: int) -> None:
    """Refuse more bytes than the limit, before they are allocated."""
    if count > LARGEST_BYTES:
        raise FileRefusal(
            f"at most {LARGEST_BYTES:,} bytes, uncompressed",
            f"{count:,} or more",
            "Cut the matrix into blocks.",
        )


def check_unpacked(count: int, packed: int) -> None:
    """Refuse a file that unpacks to too much, in all or for its size."""
    check_bytes(count)
    if count > max(RATIO_FROM, LARGEST_RATIO * packed):
        raise FileRefusal(
            f"at most {LARGEST_RATIO} bytes unpacked per byte of the file, beyond "
            f"{RATIO_FROM:,}",
            f"{count:,} or more from {packed:,}",
            "Save it uncompressed if it is meant to hold so little.",
        )


def check_count(count: int) -> None:
    """Refuse more numbers than the limit, before they are allocated."""
    if count > LARGEST_COUNT:
        raise FileRefusal(
            f"at most {LARGEST_COUNT:,} stored numbers",
            f"{count:,}",
            "Cut the matrix into blocks.",
        )


def check_shape(shape: tuple[int, ...]) -> None:
    """Refuse empty and oversized shapes, before anything of that size is allocated."""
    if min(shape) < 1:
        raise FileRefusal("at least one number", f"shape {shape}", "Check what wrote it.")
    if max(shape) > LARGEST_SIDE:
        raise FileRefusal(
            f"at most {LARGEST_SIDE:,} rows and columns",
            f"shape {shape}",
            "Cut the matrix into blocks.",
        )
