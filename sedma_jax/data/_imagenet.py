"""Read ImageNet (ILSVRC2012; Russakovsky et al. 2015, IJCV 115, 211) as it unpacks."""

import io
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import equinox as eqx
import numpy as np
from jaxtyping import Int, Shaped, UInt8
from scipy.io import loadmat

from .._files.refusal import FileRefusal, damaged
from ._images import check_sides, crop_centre, decode_image
from ._reading import SHOWN, plain_name, read_bytes, refusing, subfolder

_WNID = re.compile(r"n\d{8}")  # WordNet's number of a noun
_KIT = ("ILSVRC2012_devkit_t12/data", "data", "")  # where the development kit may be
_LARGEST_META = 2**20  # bytes; the published one has 137 kB, and expands when read
_LARGEST_TRUTH = 2**24  # bytes; the published one has 191 kB
_LARGEST_CLASSES = 2**16


class ImageNetIndex(eqx.Module):
    """A list of the images of one split, without any pixels.

    - `folder`: the folder that holds the files.
    - `files`: path of each image in it, as bytes, with the folder of its class if classes
        have folders; 40 to 60 MB for the 1,281,167 images of `train`.
    - `labels`: class of each image, as a place in `wnids`.
    - `wnids`: WordNet numbers of the classes, sorted, which is the order that classifiers
        are trained with.

    **Example:**

        >>> from pathlib import Path
        >>> index = sj.data.ImageNetIndex(
        ...     Path("val"), files=np.array([b"2.JPEG", b"1.JPEG"]),
        ...     labels=np.array([1, 0]), wnids=("n01440764", "n02123045"),
        ... )
        >>> index.wnids[index.labels[0]]  # class of the first image
        'n02123045'
    """

    folder: Path = eqx.field(static=True)
    files: Shaped[np.ndarray, " images"]
    labels: Int[np.ndarray, " images"]
    wnids: tuple[str, ...] = eqx.field(static=True)


class LabelledImage(eqx.Module):
    """An image, with red, green and blue from 0 to 255, and its class.

    **Example:**

        >>> black = sj.data.LabelledImage(np.zeros((4, 6, 3), np.uint8), label=7)
        >>> height, width, _ = black.image.shape
        >>> height, width
        (4, 6)
    """

    image: UInt8[np.ndarray, "height width 3"]
    label: int


class ImageBatch(eqx.Module):
    """Images of one size, with red, green and blue from 0 to 255, and their classes.

    **Example:**

        >>> batch = sj.data.ImageBatch(np.zeros((2, 4, 6, 3), np.uint8), np.array([7, 3]))
        >>> len(batch.images) == len(batch.labels)
        True
    """

    images: UInt8[np.ndarray, "batch height width 3"]
    labels: Int[np.ndarray, " batch"]


def index_imagenet(folder: str | os.PathLike[str], split: str = "val") -> ImageNetIndex:
    """List the images of one split, with their classes.

    Two layouts are read. In that of the archives of `train` each class has a folder,
    `SPLIT/WNID/*.JPEG`. In that of the archive of `val` all images are in `val/`, and the
    development kit states their classes: `ILSVRC2012_validation_ground_truth.txt` has the
    number of a class for each image in order, and `meta.mat` the WordNet number of each
    class.

    **Arguments:**

    - `folder`: the folder that holds `train` or `val` and, for a flat `val`, the
        development kit: as `ILSVRC2012_devkit_t12/`, as its `data/`, or just its two files.
    - `split`: `train`, `val`, or another folder of the same form.

    **Returns:**

    The index, ordered by class, or by name if the folder is flat.

    **Raises:**

    - `ValueError`: if a folder or a file is missing or damaged, if there are no images,
        or if labels and images differ in number.

    **Example:**

        >>> from pathlib import Path
        >>> for wnid in ("n02123045", "n01440764"):
        ...     Path("val", wnid).mkdir(parents=True)
        ...     Path("val", wnid, "1.JPEG").touch()  # not opened before it is streamed
        >>> index = sj.data.index_imagenet(".")
        >>> index.wnids, index.labels.tolist()
        (('n01440764', 'n02123045'), [0, 1])
    """
    folder = Path(folder)
    with refusing("index_imagenet", folder):
        root = subfolder(folder, plain_name(split, "`split`"))
        with os.scandir(root) as entries:
            wnids = sorted(
                e.name for e in entries if _WNID.fullmatch(e.name) and e.is_dir()
            )
        files, labels = [], []
        if wnids:
            for label, wnid in enumerate(wnids):
                names = _images(root / wnid)
                files += [os.fsencode(f"{wnid}/{name}") for name in names]
                labels += [label] * len(names)
        else:
            files = [os.fsencode(name) for name in _images(root)]
        if not files:
            raise FileRefusal(
                f"images ending in .JPEG in `{split}`, or in a folder per class there",
                "none",
                "Unpack the archive there; that of `train` contains one archive per class.",
            )
    if not wnids:
        labels, wnids = _kit(folder, len(files))
    return ImageNetIndex(root, np.array(files), np.array(labels, np.int32), tuple(wnids))


def stream_imagenet(
    index: ImageNetIndex,
    *,
    shorter_side: int | None = None,
    crop: int | None = None,
    order: Iterable[int] | None = None,
) -> Iterator[LabelledImage]:
    """Decode images one after another, each when it is asked for.

    Top-1 accuracies are commonly measured with `shorter_side=256, crop=224`.

    **Arguments:**

    - `index`: the index, from `index_imagenet`.
    - `shorter_side`: length, in pixels, to which the shorter side is scaled.
    - `crop`: side, in pixels, of the square that is then cut out of the centre.
    - `order`: places in the index, such as a part of it or a permutation; all of them if
        left out.

    **Raises:**

    - `ValueError`: if an image is missing, damaged, larger than 67,108,864 pixels, or
        smaller than the crop; if `shorter_side` or `crop` is below 1.

    **Example:**

        >>> from pathlib import Path
        >>> from PIL import Image
        >>> Image.new("RGB", (12, 8)).save("1.png")  # 12 wide
        >>> cat = np.array([b"1.png"]), np.array([0]), ("n02123045",)
        >>> index = sj.data.ImageNetIndex(Path(), *cat)
        >>> (record,) = sj.data.stream_imagenet(index, shorter_side=4, crop=3)
        >>> record.image.shape  # of 6 x 4 the centre
        (3, 3, 3)
    """
    check_sides("stream_imagenet", shorter_side, crop)
    for i in range(len(index.labels)) if order is None else order:
        path = index.folder / os.fsdecode(bytes(index.files[i]))
        with refusing("stream_imagenet", path):
            image = crop_centre(decode_image(path), shorter_side, crop)
        yield LabelledImage(image, int(index.labels[i]))


def image_batches(records: Iterable[LabelledImage], size: int) -> Iterator[ImageBatch]:
    """Stack images, `size` at a time; the last batch may be smaller.

    **Raises:**

    - `ValueError`: if `size < 1`, or if images of one batch differ in size.

    **Example:**

        >>> black = sj.data.LabelledImage(np.zeros((4, 6, 3), np.uint8), label=7)
        >>> [batch.images.shape for batch in sj.data.image_batches([black] * 3, 2)]
        [(2, 4, 6, 3), (1, 4, 6, 3)]
    """
    if size < 1:
        raise ValueError(
            f"`sedma_jax.data.image_batches` needs `size >= 1`. Got {size}. "
            "It is the number of images per batch."
        )
    held: list[LabelledImage] = []
    for record in records:
        held.append(record)
        if record.image.shape != held[0].image.shape:
            raise ValueError(
                "`sedma_jax.data.image_batches` needs images of one size. Got shapes "
                f"{held[0].image.shape} and {record.image.shape}. "
                "Give `shorter_side` and `crop` to `stream_imagenet`."
            )
        if len(held) == size:
            yield _stack(held)
            held = []
    if held:
        yield _stack(held)


def _stack(held: list[LabelledImage]) -> ImageBatch:
    labels = np.array([record.label for record in held], np.int32)
    return ImageBatch(np.stack([record.image for record in held]), labels)


def _images(folder: Path) -> list[str]:
    """The sorted names of the images in a folder."""
    with os.scandir(folder) as entries:
        return sorted(e.name for e in entries if e.name.upper().endswith((".JPEG", ".JPG")))


def _kit(folder: Path, count: int) -> tuple[list[Any], list[str]]:
    """Labels of the images of a flat folder, and the classes, from the development kit."""
    truth, meta = "ILSVRC2012_validation_ground_truth.txt", "meta.mat"
    with refusing("index_imagenet", folder):
        places = [folder / place for place in _KIT]
        kit = next(
            (p for p in places if (p / truth).is_file() and (p / meta).is_file()), None
        )
        if kit is None:
            raise FileRefusal(
                f"`{truth}` and `{meta}` of the development kit, to know the classes",
                "neither a folder per class nor both files",
                "Unpack `ILSVRC2012_devkit_t12.tar.gz` there.",
            )
    with refusing("index_imagenet", kit / meta):
        wnid_of = _classes(read_bytes(kit / meta, _LARGEST_META))
    with refusing("index_imagenet", kit / truth):
        lines = read_bytes(kit / truth, _LARGEST_TRUTH).split()
        if len(lines) != count:
            raise FileRefusal(
                f"one line for each of the {count} images",
                str(len(lines)),
                "Get both anew.",
            )
        wnids = sorted(wnid_of.values())
        place = {number: wnids.index(wnid) for number, wnid in wnid_of.items()}
        labels = [place.get(int(line)) if line[:9].isdigit() else None for line in lines]
        if None in labels:
            wrong = lines[labels.index(None)]
            raise FileRefusal(
                f"numbers of classes that `{meta}` lists",
                repr(wrong)[1:SHOWN],
                "Get both anew.",
            )
    return labels, wnids


def _classes(content: bytes) -> dict[int, str]:
    """The WordNet number of each class without subclasses, which alone have images."""
    # SciPy reads MATLAB's level 5 without instantiating classes that the file names.
    try:
        file: Any = io.BytesIO(content)
        table = loadmat(file, squeeze_me=True, variable_names=["synsets"])
        synsets = np.atleast_1d(table["synsets"])
        rows = [(s["ILSVRC2012_ID"], s["WNID"], s["num_children"]) for s in synsets]
        leaves = {int(i): str(wnid) for i, wnid, children in rows if int(children) == 0}
    except Exception as error:  # which exceptions a damaged file raises is not documented
        raise damaged("MATLAB", error, "scipy.io.savemat") from error
    if (
        not 0 < len(leaves) <= _LARGEST_CLASSES
        or len(set(leaves.values())) != len(leaves)
        or not all(_WNID.fullmatch(wnid) for wnid in leaves.values())
    ):
        raise FileRefusal(
            "a WordNet number of its own for each class",
            repr(list(leaves.items())[:3])[:SHOWN],
            "Get the development kit from its publisher.",
        )
    return leaves
