"""Run a model over a data set, and print the figures that it is compared by."""

from collections.abc import Callable, Iterable

import equinox as eqx
import numpy as np
from jaxtyping import Array, Float, UInt8

from ._coco import CocoImage
from ._imagenet import ImageBatch
from ._metrics import (
    AveragePrecision,
    Detections,
    average_precision,
    exact_match,
    f1,
    in_top,
)
from ._squad import Question

Report = Callable[[str], object]


class Accuracy(eqx.Module):
    """Share of images whose class comes first, or among the first five, and how many."""

    top_1: float
    top_5: float
    images: int


class AnswerScores(eqx.Module):
    """Means of `exact_match` and `f1`, from 0 to 1, and how many questions there were.

    - `f1_answered`, `f1_unanswerable`: `f1` of the questions with and without an answer;
        NaN where there are none.
    """

    exact_match: float
    f1: float
    f1_answered: float
    f1_unanswerable: float
    questions: int


def evaluate_classifier(
    classify: Callable[
        [UInt8[np.ndarray, "batch height width 3"]], Float[Array, "batch classes"]
    ],
    batches: Iterable[ImageBatch],
    *,
    progress: Callable[[int], object] | None = None,
    report: Report = print,
) -> Accuracy:
    """Top-1 and top-5 accuracy over a stream of batches, of which one is held at a time.

    **Arguments:**

    - `classify`: scores of each class for a batch of images; prepares them itself.
    - `batches`: of `image_batches`, or any of their form.
    - `progress`: called with the number of images done.
    - `report`: takes the line with the result.

    **Raises:**

    - `ValueError`: if there are no images, or as `in_top` does.
    """
    right, count = np.zeros(2), 0
    for batch in batches:
        scores = np.asarray(classify(batch.images))
        right += [in_top(scores, batch.labels, k).sum() for k in (1, 5)]
        count += len(batch.labels)
        if progress is not None:
            progress(count)
    top_1, top_5 = (right / _counted(count, "evaluate_classifier", "image")).tolist()
    report(f"top-1 {top_1:.2%}, top-5 {top_5:.2%} of {count:,} images")
    return Accuracy(top_1, top_5, count)


def evaluate_detector(
    detect: Callable[[CocoImage], Detections],
    images: Iterable[CocoImage],
    *,
    progress: Callable[[int], object] | None = None,
    report: Report = print,
) -> AveragePrecision:
    """Mean average precision over a stream of images, of which one is held at a time.

    **Arguments:**

    - `detect`: what is found in one image; should look at the pixels only.
    - `images`: of `stream_coco`.
    - `progress`, `report`: as in `evaluate_classifier`.

    **Raises:**

    - `ValueError`: if there are no images, or as `average_precision` does.
    """
    truth, found = [], []
    for image in images:
        found.append(detect(image))
        nothing = np.zeros((0, 0, 3), np.uint8)
        truth.append(eqx.tree_at(lambda i: i.image, image, nothing))  # lets go of pixels
        if progress is not None:
            progress(len(truth))
    _counted(len(truth), "evaluate_detector", "image")
    result = average_precision(truth, found)
    report(
        f"mAP {result.ap:.3f}, at overlap 0.5 {result.ap_50:.3f}, at 0.75 "
        f"{result.ap_75:.3f}, on {len(truth):,} images"
    )
    return result


def evaluate_reader(
    answer: Callable[[Question], str],
    questions: Iterable[Question],
    *,
    progress: Callable[[int], object] | None = None,
    report: Report = print,
) -> AnswerScores:
    """Exact match and F1 over a stream of questions.

    **Arguments:**

    - `answer`: to a question; the empty text where the paragraph does not say. Should
        look at `question` and `context` only.
    - `questions`: of `stream_squad`.
    - `progress`, `report`: as in `evaluate_classifier`.

    **Raises:**

    - `ValueError`: if there are no questions.
    """
    rows = []
    for question in questions:
        said = answer(question)
        scores = exact_match(said, question.answers), f1(said, question.answers)
        rows.append((*scores, bool(question.answers)))
        if progress is not None:
            progress(len(rows))
    _counted(len(rows), "evaluate_reader", "question")
    match, overlap, answered = np.array(rows).T
    mean = lambda values: float(values.mean()) if len(values) else float("nan")
    has, has_none = (mean(overlap[answered == kind]) for kind in (1, 0))
    result = AnswerScores(mean(match), mean(overlap), has, has_none, len(rows))
    report(
        f"exact match {result.exact_match:.2%}, F1 {result.f1:.2%} "
        f"of {len(rows):,} questions"
    )
    return result


def _counted(count, caller, thing):
    if not count:
        raise ValueError(
            f"`sedma_jax.data.{caller}` needs at least one {thing}. Got none. A stream is "
            "used up by one pass: make it anew."
        )
    return count
