"""Options of each layer, and what refuses those that no layer takes."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from .._programming.options import Progress
from ..kernels import Device, shown
from ..noise_models import MeasuredArray
from ._paths import Path, of_path

Where = Callable[[Path, Any], bool]
Technology = Device | MeasuredArray
Named = Technology | str
Technologies = Named | Mapping[Path, Named] | Callable[[Path, Any], Named]


def options_reader(
    call: str,
    device: Technologies,
    layer_options: Mapping[Path, dict] | Callable[[Path, Any], dict] | None,
    options: dict[str, Any],
    rewritten: bool,
) -> Callable[[Path, Any], tuple[Technology | str, dict[str, Any], bool]]:
    """A function of path and layer: technology, options, whether arrays are rewritten."""

    def read(path: Path, layer: Any) -> tuple[Technology | str, dict[str, Any], bool]:
        own = options | of_path(layer_options or {}, path, layer, {})
        technology = of_path(device, path, layer, None)
        if not isinstance(technology, Technology | str):
            raise ValueError(
                f"`sedma_jax.nn.{call}` needs a `sedma_jax.Device` for each layer. Got "
                f"{shown(technology)} for {path!r}. The path '' in a mapping leads to all."
            )
        return technology, own, own.pop("rewritten", rewritten)

    return read


def check_rewritten(call: str, asked: bool, taken: bool, paths: Iterable[Path]) -> None:
    """Refuse arrays that are written for each call where no attention takes them."""
    if asked and not taken:
        raise ValueError(
            f"`sedma_jax.nn.{call}` needs a MultiheadAttention that is converted for "
            f"`rewritten`. Got {list(paths)}. Leave `rewritten` out: other layers hold the "
            "same weights for all calls."
        )


def check_alike(call: str, path: Path, one: tuple, other: tuple) -> None:
    """Refuse tied weights that would be programmed in two ways."""
    (device, own), (technology, options) = one, other
    same = lambda a, b: a is b or (isinstance(a, str | int | tuple) and a == b)
    if (
        not same(device, technology)
        or own.keys() != options.keys()
        or not all(same(own[name], options[name]) for name in own)
    ):
        raise ValueError(
            f"`sedma_jax.nn.{call}` needs one device and the same options for tied "
            f"weights, which are programmed once. Got others at {path!r}. Give both layers "
            "the same objects, or leave one out by `where`."
        )


def sizes_of(matrices: Mapping[Path, Any], tied: set[int]) -> list[int]:
    """The number of weights of each matrix that is programmed."""
    weights: dict[tuple[int, type | None], int] = {}
    for layer in matrices.values():
        own = id(layer.weight) if id(layer.weight) in tied else id(layer)
        weights[own, type(layer)] = layer.weight.size
    return list(weights.values())


class Weighed:
    """Weights done in all, from tiles done of one matrix after another."""

    def __init__(self, report: Progress, sizes: list[int]):
        self.report, self.sizes, self.done = report, sizes, 0

    def __call__(self, tiles: int, total: int):
        size = self.sizes[0]
        self.report(self.done + size * tiles // total, self.done + sum(self.sizes))
        if tiles == total:
            self.done += self.sizes.pop(0)
