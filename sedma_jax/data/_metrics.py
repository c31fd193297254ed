"""The figures by which classifiers, detectors and readers are compared."""

import contextlib
import io
import re
import string
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import equinox as eqx
import numpy as np
from jaxtyping import Array, Bool, Float, Int
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from .._tiling.native import native_array
from ._coco import CocoImage

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)


class Detections(eqx.Module):
    """What a detector finds in one image.

    - `boxes`: left, top, width and height, in pixels of the image that it was given.
    - `scores`: confidence, higher being surer.
    - `categories`: numbers of the categories, as COCO publishes them.

    **Example:**

        >>> nothing = sj.data.Detections(np.zeros((0, 4)), np.zeros(0), np.zeros(0, int))
        >>> nothing.boxes.shape
        (0, 4)
    """

    boxes: Float[np.ndarray | Array, "found 4"]
    scores: Float[np.ndarray | Array, " found"]
    categories: Int[np.ndarray | Array, " found"]


class AveragePrecision(eqx.Module):
    """COCO's average precision, from 0 to 1; NaN if there are no objects of that kind.

    - `ap`: mean over ten overlaps, 0.5 to 0.95, and over categories: COCO's mAP.
    - `ap_50`, `ap_75`: average precision at an overlap of 0.5 and 0.75.
    - `ap_small`, `ap_medium`, `ap_large`: `ap` of objects of less than 32 x 32 pixels, of
        up to 96 x 96, and of more.
    - `recall`: highest recall with at most 100 detections per image, averaged as `ap` is.

    **Example:**

        >>> found = sj.data.AveragePrecision(
        ...     ap=0.4, ap_50=0.6, ap_75=0.45, ap_small=float("nan"), ap_medium=0.35,
        ...     ap_large=0.5, recall=0.55,
        ... )
        >>> found.ap <= found.ap_50  # as much overlap as 0.95 is asked for in the mean
        True
    """

    ap: float
    ap_50: float
    ap_75: float
    ap_small: float
    ap_medium: float
    ap_large: float
    recall: float


def in_top(
    scores: Float[np.ndarray | Array, "batch classes"],
    labels: Int[np.ndarray | Array, " batch"],
    k: int,
) -> Bool[np.ndarray, " batch"]:
    """Whether the label is among the `k` classes of the highest scores.

    Classes with equal scores are ranked by their numbers, so that a constant classifier
    gains nothing.

    **Arguments:**

    - `scores`: score of each class.
    - `labels`: the correct class of each row.
    - `k`: how many classes may come first, at least 1.

    **Raises:**

    - `ValueError`: if `k < 1`, if a score is NaN, or if a label is not a class.

    **Example:**

        >>> scores, labels = np.array([[0.1, 0.7, 0.2], [0.5, 0.3, 0.2]]), np.array([2, 0])
        >>> print(sj.data.in_top(scores, labels, 1), sj.data.in_top(scores, labels, 2))
        [False  True] [ True  True]
    """
    scores, labels = (np.asarray(native_array(a, "in_top")) for a in (scores, labels))
    classes = scores.shape[1]
    wrong = labels[(labels < 0) | (labels >= classes)]
    if k < 1 or np.isnan(scores).any() or wrong.size:
        raise ValueError(
            "`sedma_jax.data.in_top` needs `k >= 1`, scores without NaN, and labels from "
            f"0 to {classes - 1}. Got {k=}, {int(np.isnan(scores).sum())} NaN, and labels "
            f"{wrong[:5].tolist()} outside. Check what the classifier returns."
        )
    own = np.take_along_axis(scores, labels[:, None], axis=1)
    before = np.arange(classes) < labels[:, None]
    rank = np.sum((scores > own) | ((scores == own) & before), axis=1)
    return rank < k


def normalise_answer(text: str) -> str:
    """Put a text in lower case and drop punctuation, articles and surplus white space.

    This is done in this order, as in SQuAD's evaluation (Rajpurkar et al. 2016, EMNLP,
    section 6.1).

    **Example:**

        >>> sj.data.normalise_answer("The word  line's end.")
        'word lines end'
    """
    text = text.lower().translate(_PUNCTUATION)
    return " ".join(_ARTICLES.sub(" ", text).split())


def exact_match(prediction: str, answers: Sequence[str]) -> float:
    """1 if the prediction equals one of the answers, all normalised; otherwise 0.

    Without answers the correct prediction is empty (SQuAD v2.0).

    **Example:**

        >>> sj.data.exact_match("The cells.", ["traps", "cells"])
        1.0
        >>> sj.data.exact_match("The cells.", []), sj.data.exact_match("", [])
        (0.0, 1.0)
    """
    said = normalise_answer(prediction)
    return float(any(said == normalise_answer(answer) for answer in answers or ("",)))


def f1(prediction: str, answers: Sequence[str]) -> float:
    """Overlap of words: harmonic mean of precision and recall, for the best answer.

    A word counts as often as both texts have it (Rajpurkar et al. 2016, EMNLP, section
    6.1). If one text is empty once normalised, the figure is 1 if both are, otherwise 0,
    as in v2.0; v1.1 always gives 0.

    **Example:**

        >>> sj.data.f1("two bit lines", ["bit lines"])  # precision 2/3, recall 1
        0.8
    """
    return max(_overlap(prediction, answer) for answer in answers or ("",))


def _overlap(prediction: str, answer: str) -> float:
    said, right = (normalise_answer(text).split() for text in (prediction, answer))
    if not said or not right:
        return float(said == right)
    # 2 p r / (p + r) with p = common / said and r = common / right.
    return 2 * (Counter(said) & Counter(right)).total() / (len(said) + len(right))


def average_precision(
    images: Sequence[CocoImage], found: Sequence[Detections]
) -> AveragePrecision:
    """Score detections with COCO's own evaluation (Lin et al. 2014, ECCV).

    **Arguments:**

    - `images`: images with their objects. Their pixels are not used.
    - `found`: what a detector found in each image, in the same order.

    **Raises:**

    - `ValueError`: if the two differ in length, or if a box or score is not finite.

    **Example:**

        >>> boxes, area, cat = np.array([[10.0, 0, 50, 80]]), np.array([4e3]), np.array([1])
        >>> pixels, crowd = np.zeros((90, 90, 3), np.uint8), np.array([False])
        >>> image = sj.data.CocoImage(7, pixels, (1.0, 1.0), boxes, area, cat, crowd)
        >>> found = sj.data.Detections(boxes * [1, 1, 1, 0.6], np.array([0.9]), cat)
        >>> result = sj.data.average_precision([image], [found])  # an overlap of 0.6
        >>> round(result.ap_50, 3), round(result.ap_75, 3)
        (1.0, 0.0)
    """
    if len(images) != len(found):
        raise ValueError(
            "`sedma_jax.data.average_precision` needs detections for each image. Got "
            f"{len(images)} images and {len(found)} detections. An image without "
            "any has empty arrays."
        )
    truth, said = [], []
    for image, detections in zip(images, found, strict=True):
        boxes, scores = np.asarray(detections.boxes), np.asarray(detections.scores)
        if not (np.isfinite(boxes).all() and np.isfinite(scores).all()):
            raise ValueError(
                "`sedma_jax.data.average_precision` needs finite boxes and scores. Got NaN "
                f"or infinity for image {image.image_id}. Check what the detector returns."
            )
        # Published sizes decide which objects are small.
        down, across = image.scale
        back = 1 / np.array([across, down, across, down])
        truth += _entries(
            image.image_id,
            image.boxes * back,
            image.categories,
            area=image.areas / (down * across),
            iscrowd=image.crowds.astype(int),
        )
        boxes = boxes.astype(np.float64) * back
        area = boxes[:, 2] * boxes[:, 3]
        said += _entries(
            image.image_id,
            boxes,
            np.asarray(detections.categories),
            area=area,
            score=scores,
        )
    ids = [image.image_id for image in images]
    with contextlib.redirect_stdout(io.StringIO()):  # it prints its progress
        evaluation = COCOeval(_coco(ids, truth), _coco(ids, said), "bbox")
        evaluation.params.catIds = sorted({entry["category_id"] for entry in truth})
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    stats = [float(s) if s >= 0 else float("nan") for s in evaluation.stats]
    named = zip(AveragePrecision.__annotations__, (*stats[:6], stats[8]), strict=True)
    return AveragePrecision(**dict(named))


def _entries(
    image_id: int, boxes: np.ndarray, categories: np.ndarray, **columns: np.ndarray
) -> Iterator[dict[str, Any]]:
    """The annotations that COCO's evaluation reads, with the fields it uses for boxes."""
    for i, (box, category) in enumerate(zip(boxes.tolist(), categories, strict=True)):
        row = {name: column[i].item() for name, column in columns.items()}
        named = {"image_id": image_id, "category_id": int(category), "bbox": box}
        yield {"iscrowd": 0} | row | named


def _coco(ids: list[int], entries: list[dict[str, Any]]) -> Any:
    coco: Any = COCO()
    coco.dataset = {
        "images": [{"id": i} for i in ids],
        "categories": [{"id": i} for i in sorted({e["category_id"] for e in entries})],
        # Numbers start at 1, since COCO's evaluation takes 0 for no match.
        "annotations": [entry | {"id": i} for i, entry in enumerate(entries, 1)],
    }
    coco.createIndex()
    return coco
