"""Why a file is refused, and the limits that no file may pass."""

LARGEST_BYTES = 2**31
LARGEST_COUNT = 2**28  # stored numbers: 2 GiB as float64
LARGEST_SIDE = 2**24  # rows or columns: an index pointer of 64 MiB


class Refusal(Exception):
    """Why a file is not what was asked for: requirement, value received, remedy."""


def damaged(kind: str, error: Exception | str, writer: str) -> Refusal:
    """Refuse what a parser cannot read; its own words may quote the file."""
    said = " ".join(str(error).split())[:200].rstrip(".") or type(error).__name__
    said = "".join(character if character.isprintable() else "?" for character in said)
    return Refusal(
        f"an intact {kind} file",
        f"a parse error ({said})",
        f"Copy it again, or write it with `{writer}`.",
    )


def check_bytes(count: int):
    """Refuse more bytes than the limit, before they are allocated."""
    if count > LARGEST_BYTES:
        raise Refusal(
            f"at most {LARGEST_BYTES:,} bytes, uncompressed",
            f"{count:,} or more",
            "Cut the matrix into blocks.",
        )


def check_count(count: int):
    """Refuse more numbers than the limit, before they are allocated."""
    if count > LARGEST_COUNT:
        raise Refusal(
            f"at most {LARGEST_COUNT:,} stored numbers",
            f"{count:,}",
            "Cut the matrix into blocks.",
        )


def check_shape(shape: tuple[int, ...]):
    """Refuse empty and overlong shapes, before anything of that size is allocated."""
    if min(shape) < 1:
        raise Refusal("at least one number", f"shape {shape}", "Check what wrote it.")
    if max(shape) > LARGEST_SIDE:
        raise Refusal(
            f"at most {LARGEST_SIDE:,} rows and columns",
            f"shape {shape}",
            "Cut the matrix into blocks.",
        )
