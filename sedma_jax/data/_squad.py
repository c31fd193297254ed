"""Read SQuAD v1.1 (Rajpurkar et al. 2016, EMNLP) and v2.0 (2018, ACL) as published."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import equinox as eqx

from .._files.refusal import FileRefusal
from ._reading import field, read_json, refusing

_PUBLISHED = "Get the file from its publisher."


class Question(eqx.Module):
    """One question about one paragraph.

    - `question_id`: a text that identifies the question.
    - `title`: title of the article.
    - `context`: the paragraph.
    - `question`: what is asked.
    - `answers`: answers that people gave, all parts of the paragraph; empty if it does not
        say.
    - `starts`: place of the first character of each answer in the paragraph.

    **Example:**

        >>> what = "1", "Memory", "Cells drift.", "What drifts?"
        >>> question = sj.data.Question(*what, answers=("Cells",), starts=(0,))
        >>> question.context[question.starts[0] :].startswith(question.answers[0])
        True
    """

    question_id: str = eqx.field(static=True)
    title: str = eqx.field(static=True)
    context: str = eqx.field(static=True)
    question: str = eqx.field(static=True)
    answers: tuple[str, ...] = eqx.field(static=True)
    starts: tuple[int, ...] = eqx.field(static=True)


def stream_squad(path: str | os.PathLike[str]) -> Iterator[Question]:
    """Yield the questions of `train-v1.1.json`, `dev-v2.0.json` and the like, in order.

    The whole file is read first (the published ones have at most 40 MB), and each question
    is checked when it is yielded.

    **Arguments:**

    - `path`: the file.

    **Raises:**

    - `ValueError`: if the file is missing, damaged, longer than 512 MiB or not in this
        format; if an answer begins outside its paragraph; if a question of v1.1 has no
        answer, or one of v2.0 has answers and is marked as impossible.

    **Example:**

        >>> import json
        >>> from pathlib import Path
        >>> asked = {"id": "1", "question": "What drifts?", "answers": []}
        >>> asked["is_impossible"] = True
        >>> paragraph = {"context": "Cells are read.", "qas": [asked]}
        >>> content = {"data": [{"title": "Memory", "paragraphs": [paragraph]}]}
        >>> _ = Path("dev-v2.0.json").write_text(json.dumps(content))
        >>> [question.answers for question in sj.data.stream_squad("dev-v2.0.json")]
        [()]
    """
    with refusing("stream_squad", path):
        content = read_json(Path(path), "json.dump")
        for article in field(content, "data", list, "the file"):
            title = field(article, "title", str, "an article")
            for paragraph in field(article, "paragraphs", list, "an article"):
                context = field(paragraph, "context", str, "a paragraph")
                for asked in field(paragraph, "qas", list, "a paragraph"):
                    yield _question(asked, title, context)


def _question(asked: Any, title: str, context: str) -> Question:
    name = field(asked, "id", str, "a question")
    where = f"question {name[:40]!r}"
    answers, starts = [], []
    for answer in field(asked, "answers", list, where):
        answers.append(field(answer, "text", str, f"an answer to {where}"))
        starts.append(field(answer, "answer_start", int, f"an answer to {where}"))
        if not 0 <= starts[-1] <= len(context):
            raise FileRefusal(
                f"answers to {where} within the {len(context)} characters of its paragraph",
                f"one that starts at {starts[-1]}",
                _PUBLISHED,
            )
    impossible = field({"is_impossible": False} | asked, "is_impossible", bool, where)
    if bool(answers) == impossible:
        raise FileRefusal(
            f"answers to {where}, or none and `is_impossible`",
            f"{len(answers)} answers and is_impossible={impossible}",
            _PUBLISHED,
        )
    text = field(asked, "question", str, where)
    return Question(
        question_id=name,
        title=title,
        context=context,
        question=text,
        answers=tuple(answers),
        starts=tuple(starts),
    )
