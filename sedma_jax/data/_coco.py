"""Read COCO 2017 (Lin et al. 2014, ECCV) for object detection, as its archives unpack."""

import os
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import equinox as eqx
import numpy as np
from jaxtyping import Bool, Float, Int, UInt8

from .._files.refusal import FileRefusal
from ._images import check_sides, decode_image, resize
from ._reading import SHOWN, field, plain_name, read_json, refusing

_PUBLISHED = "Get the file from its publisher."


class CocoIndex(eqx.Module):
    """The annotations of one split, without any pixels.

    The boxes of all images are stored one after another; those of image `i` are
    `starts[i]` to `starts[i + 1]`.

    - `folder`: the folder that holds the images.
    - `image_ids`, `files`, `sizes`: number, file name, `(height, width)` of each image.
    - `starts`: first box of each image, and at the end the number of boxes.
    - `boxes`: left, top, width and height, in pixels.
    - `areas`: area of the segmentation of each box, in square pixels.
    - `categories`: number of the category of each box, as published (1 to 90 with gaps).
    - `crowds`: whether a box stands for a crowd, in which detections are not counted.
    - `category_names`: the name of each category.

    **Example:**

        >>> from pathlib import Path
        >>> index = sj.data.CocoIndex(
        ...     Path("val2017"), np.array([7, 9]), ("7.jpg", "9.jpg"), np.full((2, 2), 480),
        ...     starts=np.array([0, 2, 3]), boxes=np.ones((3, 4)), areas=np.ones(3),
        ...     categories=np.ones(3, int), crowds=np.zeros(3, bool),
        ...     category_names={1: "cat"},
        ... )
        >>> np.diff(index.starts).tolist()  # cats in each image
        [2, 1]
    """

    folder: Path = eqx.field(static=True)
    image_ids: Int[np.ndarray, " images"]
    files: tuple[str, ...] = eqx.field(static=True)
    sizes: Int[np.ndarray, "images 2"]
    starts: Int[np.ndarray, " images+1"]
    boxes: Float[np.ndarray, "boxes 4"]
    areas: Float[np.ndarray, " boxes"]
    categories: Int[np.ndarray, " boxes"]
    crowds: Bool[np.ndarray, " boxes"]
    category_names: dict[int, str] = eqx.field(static=True)


class CocoImage(eqx.Module):
    """One image with its objects; other fields are those of `CocoIndex`.

    - `image`: red, green and blue, 0 to 255.
    - `scale`: size of this image over that of the published one, `(vertical, horizontal)`.
        Boxes and areas are in pixels of this image.

    **Example:**

        >>> image = sj.data.CocoImage(
        ...     7, np.zeros((9, 9, 3), np.uint8), (1.0, 1.0), np.array([[1.0, 2, 3, 4]]),
        ...     areas=np.array([12.0]), categories=np.array([1]), crowds=np.array([False]),
        ... )
        >>> left, top, width, height = image.boxes[0].tolist()
        >>> left + width, top + height  # the lower right corner
        (4.0, 6.0)
    """

    image_id: int
    image: UInt8[np.ndarray, "height width 3"]
    scale: tuple[float, float]
    boxes: Float[np.ndarray, "boxes 4"]
    areas: Float[np.ndarray, " boxes"]
    categories: Int[np.ndarray, " boxes"]
    crowds: Bool[np.ndarray, " boxes"]


def index_coco(folder: str | os.PathLike[str], split: str = "val2017") -> CocoIndex:
    """Read `annotations/instances_SPLIT.json`, for the images in `SPLIT/`.

    The whole file is read once; for `train2017` that is 448 MiB of text, of which about
    80 MB are kept. Segmentations are not kept.

    **Arguments:**

    - `folder`: the folder where the archives `annotations_trainval2017.zip` and
        `SPLIT.zip` were unpacked.
    - `split`: `val2017`, `train2017`, or another split of the same form.

    **Returns:**

    The index, in the order of the numbers of the images.

    **Raises:**

    - `ValueError`: if the file is missing, damaged, longer than 512 MiB or not in this
        format; if a file name leads out of its folder; if a box is not finite or has
        negative sides; if a box belongs to no image or category; if two images have the
        same number.

    **Example:**

        >>> import json
        >>> from pathlib import Path
        >>> image = {"id": 7, "file_name": "cat.jpg", "height": 480, "width": 640}
        >>> content = {"images": [image], "annotations": [], "categories": []}
        >>> Path("annotations").mkdir()
        >>> _ = Path("annotations/instances_val2017.json").write_text(json.dumps(content))
        >>> sj.data.index_coco(".").sizes.tolist()  # height and width
        [[480, 640]]
    """
    with refusing("index_coco", folder):
        plain_name(split, "`split`")
    path = Path(folder) / "annotations" / f"instances_{split}.json"
    with refusing("index_coco", path):
        content = read_json(path, "json.dump")
        images = sorted(_images(content), key=lambda image: image[0])
        names = dict(
            (_whole(category, "id", "a category"), field(category, "name", str, "one"))
            for category in field(content, "categories", list, "the file")
        )
        ids = np.array([image[0] for image in images], np.int64)
        if len(np.unique(ids)) != len(ids):
            raise FileRefusal("a number of its own for each image", "repeated", _PUBLISHED)
        table = _boxes(field(content, "annotations", list, "the file"), names)
        place = np.searchsorted(ids, table["image"])
        known = place < len(ids)
        known[known] = ids[place[known]] == table["image"][known]
        if not known.all():
            got = f"a box of image {table['image'][np.argmin(known)]}, which is not listed"
            raise FileRefusal("boxes of listed images", got, _PUBLISHED)
    order = np.argsort(place, kind="stable")
    table, place = table[order], place[order]
    return CocoIndex(
        folder=Path(folder) / split,
        image_ids=ids,
        files=tuple(image[1] for image in images),
        sizes=np.array([image[2] for image in images], np.int64).reshape(-1, 2),
        starts=np.searchsorted(place, np.arange(len(ids) + 1)),
        boxes=table["box"],
        areas=table["area"],
        categories=table["category"],
        crowds=table["crowd"],
        category_names=names,
    )


def stream_coco(
    index: CocoIndex,
    *,
    size: tuple[int, int] | None = None,
    order: Iterable[int] | None = None,
) -> Iterator[CocoImage]:
    """Decode images one after another, each when it is asked for.

    **Arguments:**

    - `index`: the index, from `index_coco`.
    - `size`: `(height, width)` to which every image and its boxes are stretched; images
        keep their published sizes if left out.
    - `order`: places in the index, such as a part of it or a permutation; all of them if
        left out.

    **Raises:**

    - `ValueError`: if an image is missing, damaged, of another size than the annotations
        say, or larger than 67,108,864 pixels; if a side of `size` is below 1.

    **Example:**

        >>> from pathlib import Path
        >>> from PIL import Image
        >>> Image.new("RGB", (8, 4)).save("7.png")  # 8 wide
        >>> index = sj.data.CocoIndex(
        ...     Path(), np.array([7]), ("7.png",), np.array([[4, 8]]), np.array([0, 1]),
        ...     np.array([[2.0, 1.0, 4.0, 2.0]]), np.array([8.0]), np.array([1]),
        ...     np.array([False]), {1: "cat"},
        ... )
        >>> (image,) = sj.data.stream_coco(index, size=(4, 4))
        >>> image.image.shape, image.boxes.tolist()  # half as wide
        ((4, 4, 3), [[1.0, 1.0, 2.0, 2.0]])
    """
    check_sides("stream_coco", *(size or ()))
    for i in range(len(index.files)) if order is None else order:
        path = index.folder / index.files[i]
        with refusing("stream_coco", path):
            image = decode_image(path)
            height, width = map(int, index.sizes[i])
            if image.size != (width, height):
                raise FileRefusal(
                    f"the {width} x {height} pixels that the annotations state",
                    f"{image.width} x {image.height}",
                    "Images and annotations are from different releases: get both anew.",
                )
            if size is not None:
                image = resize(image, size[1], size[0])
        down, across = image.height / height, image.width / width
        part = slice(index.starts[i], index.starts[i + 1])
        yield CocoImage(
            image_id=int(index.image_ids[i]),
            image=np.array(image),
            scale=(down, across),
            boxes=index.boxes[part] * np.array([across, down, across, down]),
            areas=index.areas[part] * (down * across),
            categories=index.categories[part],
            crowds=index.crowds[part],
        )


def _images(content: Any) -> Iterator[tuple[int, str, tuple[int, int]]]:
    """The number, file name and size of each image."""
    for image in field(content, "images", list, "the file"):
        name = plain_name(field(image, "file_name", str, "an image"), "`file_name`")
        height, width = (_whole(image, side, "an image") for side in ("height", "width"))
        if min(height, width) < 1:
            raise FileRefusal(
                "images of one pixel or more", f"{height} x {width}", _PUBLISHED
            )
        yield _whole(image, "id", "an image"), sys.intern(name), (height, width)


def _boxes(annotations: list[Any], names: dict[int, str]) -> np.ndarray:
    """The annotations as a table; `names` has the categories."""
    kinds = [("image", np.int64), ("category", np.int64), ("crowd", np.bool_)]
    table = np.zeros(
        len(annotations), [*kinds, ("area", np.float64), ("box", np.float64, 4)]
    )
    for row, annotation in enumerate(annotations):
        box = field(annotation, "bbox", list, "an annotation")
        numbers = [*box, annotation.get("area")]
        if len(numbers) != 5 or not all(
            type(n) in (int, float) and abs(n) < 2**53 for n in numbers
        ):
            raise FileRefusal(
                "four finite numbers as `bbox` and one as `area` of an annotation",
                repr(numbers)[:SHOWN],
                _PUBLISHED,
            )
        if min(numbers[2:]) < 0:
            raise FileRefusal(
                "boxes and areas that are not negative", repr(numbers)[:SHOWN], _PUBLISHED
            )
        category = _whole(annotation, "category_id", "an annotation")
        if category not in names:
            raise FileRefusal("boxes of listed categories", str(category), _PUBLISHED)
        crowd = _whole({"iscrowd": 0} | annotation, "iscrowd", "an annotation")
        image = _whole(annotation, "image_id", "an annotation")
        table[row] = (image, category, crowd != 0, numbers[4], tuple(box))
    return table


def _whole(record: Any, name: str, where: str) -> int:
    """A field that has to be a whole number of at most 64 bits."""
    number = field(record, name, int, where)
    if abs(number) >= 2**63:
        raise FileRefusal(
            f"64 bits as `{name}` of {where}", str(number)[:SHOWN], _PUBLISHED
        )
    return number
