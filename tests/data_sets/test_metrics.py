"""Metrics against values worked out by hand, and the loops that print them."""

import math

import numpy as np
import pytest

from sedma_jax import data

# -- classification


def test_in_top_counts_ranks():
    rng = np.random.default_rng(0)
    scores, labels = rng.normal(size=(200, 10)), rng.integers(10, size=200)
    pairs = list(zip(scores, labels, strict=True))
    for k in (1, 3, 10, 12):
        expected = [label in np.argsort(-row)[:k] for row, label in pairs]
        np.testing.assert_array_equal(data.in_top(scores, labels, k), expected)


def test_a_constant_classifier_gains_nothing_from_ties():
    right = data.in_top(np.zeros((10, 10)), np.arange(10), 3)
    assert right.tolist() == [True] * 3 + [False] * 7


def test_in_top_refuses_what_has_no_rank():
    for scores, labels, k in (
        (np.zeros((1, 3)), np.array([3]), 1),
        (np.zeros((1, 3)), np.array([-1]), 1),
        (np.full((1, 3), np.nan), np.array([0]), 1),
        (np.zeros((1, 3)), np.array([0]), 0),
    ):
        with pytest.raises(ValueError, match="labels from 0 to 2"):
            data.in_top(scores, labels, k)


def test_evaluate_classifier_prints_both_accuracies(capsys):
    # Class c gets the score of the mean red if c is 0, else a fixed one: by hand, image
    # 250 has class 0 first, image 5 has it seventh of ten.
    fixed = np.array([0, 90, 80, 70, 60, 50, 40, 3, 2, 1.0])

    def classify(images):
        scores = np.tile(fixed, (len(images), 1))
        scores[:, 0] = images[..., 0].mean(axis=(1, 2))
        return scores

    reds, labels = [250, 5, 250, 250, 5], [0, 0, 1, 9, 4]  # ranks 1, 7, 2, 10, 4
    images = np.uint8(reds)[:, None, None, None] * np.ones((1, 4, 4, 3), np.uint8)
    batches = [
        data.ImageBatch(images[part], np.array(labels[part], np.int32))
        for part in (slice(3), slice(3, 5))
    ]
    seen = []
    result = data.evaluate_classifier(classify, batches, progress=seen.append)
    assert (result.top_1, result.top_5, result.images) == (0.2, 0.6, 5)
    assert seen == [3, 5]
    assert capsys.readouterr().out == "top-1 20.00%, top-5 60.00% of 5 images\n"
    with pytest.raises(ValueError, match="at least one image"):
        data.evaluate_classifier(classify, [])


# -- detection


def picture(boxes, categories=None, crowds=None, image_id=1, scale=(1.0, 1.0)):
    boxes = np.array(boxes, np.float64).reshape(-1, 4)
    count = len(boxes)
    return data.CocoImage(
        image_id,
        np.zeros((1, 1, 3), np.uint8),
        scale,
        boxes,
        boxes[:, 2] * boxes[:, 3],
        np.array(categories if categories is not None else [1] * count, np.int64),
        np.array(crowds if crowds is not None else [False] * count, bool),
    )


def found(boxes, scores, categories=None):
    boxes = np.array(boxes, np.float64).reshape(-1, 4)
    categories = [1] * len(boxes) if categories is None else categories
    return data.Detections(boxes, np.array(scores, float), np.array(categories, int))


def same(a, b):
    return a == pytest.approx(b, abs=1e-12, nan_ok=True)


def test_average_precision_by_hand():
    # Overlap of a box of 100 x 100 with itself moved by s: (100 - s) / (100 + s). Moved
    # by 16 it is 0.7241: a match at the five thresholds 0.5, ..., 0.7.
    truth = picture([[0, 0, 100, 100], [200, 0, 100, 100]])
    result = data.average_precision(
        [truth], [found([[0, 0, 100, 100], [216, 0, 100, 100]], [0.9, 0.8])]
    )
    # Elsewhere one of two is found first: precision 1 at recalls 0, 0.01, ..., 0.5.
    half = 51 / 101
    assert same(result.ap, (5 * 1 + 5 * half) / 10)
    assert same(result.ap_50, 1) and same(result.ap_75, half)
    assert same(result.ap_large, result.ap) and math.isnan(result.ap_small)
    assert same(result.recall, (5 * 1 + 5 * 0.5) / 10)


def test_a_false_detection_costs_precision_by_its_rank():
    truth = picture([[0, 0, 20, 20]])
    boxes = [[0, 0, 20, 20], [50, 50, 20, 20]]
    first = data.average_precision([truth], [found(boxes, [0.9, 0.5])])
    assert same(first.ap, 1) and same(first.ap_small, 1)
    second = data.average_precision([truth], [found(boxes, [0.5, 0.9])])
    assert same(second.ap, 0.5)  # one right of two, at any recall
    none = data.average_precision([truth], [found([], [])])
    assert same(none.ap, 0) and same(none.recall, 0)


def test_categories_are_averaged_and_crowds_left_out():
    truth = picture([[0, 0, 50, 50], [100, 0, 50, 50]], categories=[1, 18])
    said = found([[0, 0, 50, 50], [100, 0, 50, 50]], [0.9, 0.9], [1, 1])
    # Category 1: found first, then a false one. Category 18: not found.
    assert same(data.average_precision([truth], [said]).ap, 0.5)
    crowd = picture([[0, 0, 50, 50], [100, 0, 50, 50]], crowds=[False, True])
    said = found([[100, 0, 50, 50], [0, 0, 50, 50]], [0.9, 0.5])
    assert same(data.average_precision([crowd], [said]).ap, 1)  # uncounted, not false
    nothing = data.average_precision([picture([])], [said])
    assert math.isnan(nothing.ap)


def test_detections_in_resized_images_count_in_published_pixels():
    # Published: 20 x 20, small. Seen twice as tall and ten times as wide.
    seen = picture([[100, 20, 200, 40]], scale=(2.0, 10.0))
    result = data.average_precision([seen], [found([[100, 20, 200, 40]], [0.3])])
    assert same(result.ap_small, 1) and math.isnan(result.ap_large)


def test_average_precision_refuses_what_cannot_be_scored():
    with pytest.raises(ValueError, match="1 images and 0 detections"):
        data.average_precision([picture([])], [])
    with pytest.raises(ValueError, match="finite boxes and scores"):
        data.average_precision([picture([])], [found([[0, 0, 1, 1]], [np.nan])])


def test_evaluate_detector_prints_and_lets_go_of_pixels(capsys):
    boxes = [[0, 0, 20, 20]]
    images = (picture(boxes, image_id=i) for i in (3, 4))
    answers = {3: found(boxes, [0.9]), 4: found([[50, 50, 20, 20]], [0.5])}
    result = data.evaluate_detector(lambda image: answers[image.image_id], images)
    assert same(result.ap, 51 / 101)
    printed = "mAP 0.505, at overlap 0.5 0.505, at 0.75 0.505, on 2 images\n"
    assert capsys.readouterr().out == printed
    with pytest.raises(ValueError, match="at least one image"):
        data.evaluate_detector(lambda image: answers[3], [])


# -- reading


@pytest.mark.parametrize(
    "text, normal",
    [
        ("The  Cat, sat!", "cat sat"),
        ("a\tthe\nAn", ""),
        ("theatre an-other banana", "theatre another banana"),
        ("it's $3.5 (the U.S.)", "its 35 us"),
        ("„Café“", "„café“"),  # string.punctuation is ASCII
    ],
)
def test_normalise_answer(text, normal):
    assert data.normalise_answer(text) == normal


@pytest.mark.parametrize(
    "said, answers, match, overlap",
    [
        ("The Broncos.", ["denver", "broncos"], 1, 1),
        # Two of two words right, of three: p = 1, r = 2/3.
        ("Denver Broncos", ["the great Denver Broncos"], 0, 0.8),
        # Counted as often as both have it: common 1 of 3 said and 1 asked.
        ("x x x", ["x"], 0, 0.5),
        ("x y", ["z"], 0, 0),
        ("", [], 1, 1),
        ("the", [], 1, 1),
        ("something", [], 0, 0),
        ("", ["something"], 0, 0),
        ("b c", ["b d e f g h", "c b"], 0, 1),
    ],
)
def test_exact_match_and_f1(said, answers, match, overlap):
    assert data.exact_match(said, answers) == match
    assert same(data.f1(said, answers), overlap)


def test_evaluate_reader_prints_the_means(capsys):
    def question(name, *answers):
        return data.Question(name, "", "context", "?", answers, (0,) * len(answers))

    questions = [question("0", "one two"), question("1", "x"), question("2")]
    said = {"0": "two", "1": "x", "2": "wrong"}  # f1 2/3, 1, 0
    result = data.evaluate_reader(lambda q: said[q.question_id], iter(questions))
    assert same(result.exact_match, 1 / 3) and same(result.f1, 5 / 9)
    assert same(result.f1_answered, 5 / 6) and same(result.f1_unanswerable, 0)
    printed = "exact match 33.33%, F1 55.56% of 3 questions\n"
    assert capsys.readouterr().out == printed
    with pytest.raises(ValueError, match="at least one question"):
        data.evaluate_reader(lambda q: "", [])
