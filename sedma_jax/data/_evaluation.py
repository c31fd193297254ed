"""Run a model over a data set, and report the figures by which models are compared."""

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
    """Shares of images, from 0 to 1, and the number of images.

    - `top_1`, `top_5`: share whose class is ranked first, or in the first five.

    **Example:**

        >>> accuracy = sj.data.Accuracy(top_1=0.75, top_5=1.0, images=4)
        >>> accuracy.top_1 * accuracy.images  # images that were told right
        3.0
    """

    top_1: float
    top_5: float
    images: int


class AnswerScores(eqx.Module):
    """Means of `exact_match` and `f1`, from 0 to 1, and the number of questions.

    - `f1_answered`, `f1_unanswerable`: `f1` of the questions with and without an answer;
        NaN if there are none.

    **Example:**

        >>> scores = sj.data.AnswerScores(
        ...     exact_match=0.5, f1=0.75, f1_answered=0.5, f1_unanswerable=1.0, questions=4
        ... )
        >>> (scores.f1_answered + scores.f1_unanswerable) / 2 == scores.f1  # two of each
        True
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
    """Top-1 and top-5 accuracy over a stream of batches; one is held at a time.

    **Arguments:**

    - `classify`: returns the score of each class for a batch of images, which it has to
        prepare itself.
    - `batches`: batches from `image_batches`, or others of the same form.
    - `progress`: called with the number of images done.
    - `report`: called with a line that states the result.

    **Raises:**

    - `ValueError`: if there are no images, or as `in_top` does.

    **Example:**

        >>> images, labels = np.zeros((4, 2, 2, 3), np.uint8), np.array([0, 0, 1, 2])
        >>> always_0 = lambda images: np.eye(10)[np.zeros(len(images), int)]
        >>> batches = [sj.data.ImageBatch(images, labels)]
        >>> sj.data.evaluate_classifier(always_0, batches).top_1
        top-1 50.00%, top-5 100.00% of 4 images
        0.5
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
    """Mean average precision over a stream of images; one is held at a time.

    **Arguments:**

    - `detect`: returns what it finds in one image; it should look at the pixels only.
    - `images`: images from `stream_coco`.
    - `progress`, `report`: as in `evaluate_classifier`.

    **Raises:**

    - `ValueError`: if there are no images, or as `average_precision` does.

    **Example:**

        >>> boxes, area, cat = np.array([[10.0, 0, 50, 80]]), np.array([4e3]), np.array([1])
        >>> pixels, crowd = np.zeros((90, 90, 3), np.uint8), np.array([False])
        >>> image = sj.data.CocoImage(7, pixels, (1.0, 1.0), boxes, area, cat, crowd)
        >>> oracle = lambda i: sj.data.Detections(i.boxes, np.ones(1), i.categories)
        >>> _ = sj.data.evaluate_detector(oracle, [image])
        mAP 1.000, at overlap 0.5 1.000, at 0.75 1.000, on 1 images
    """
    truth, found = [], []
    for image in images:
        found.append(detect(image))
        nothing = np.zeros((0, 0, 3), np.uint8)
        truth.append(eqx.tree_at(lambda i: i.image, image, nothing))  # frees the pixels
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

    - `answer`: answers a question, by an empty text if the paragraph does not say; it
        should look at `question` and `context` only.
    - `questions`: questions from `stream_squad`.
    - `progress`, `report`: as in `evaluate_classifier`.

    **Raises:**

    - `ValueError`: if there are no questions.

    **Example:**

        >>> what = "1", "Memory", "Cells drift.", "What drifts?"
        >>> question = sj.data.Question(*what, answers=("Cells",), starts=(0,))
        >>> sj.data.evaluate_reader(lambda question: "the cells", [question]).f1_answered
        exact match 100.00%, F1 100.00% of 1 questions
        1.0
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
    result = AnswerScores(
        exact_match=mean(match),
        f1=mean(overlap),
        f1_answered=has,
        f1_unanswerable=has_none,
        questions=len(rows),
    )
    report(
        f"exact match {result.exact_match:.2%}, F1 {result.f1:.2%} "
        f"of {len(rows):,} questions"
    )
    return result


def _counted(count: int, caller: str, thing: str) -> int:
    if not count:
        raise ValueError(
            f"`sedma_jax.data.{caller}` needs at least one {thing}. Got none. A stream is "
            "used up by one pass: make a new one."
        )
    return count
