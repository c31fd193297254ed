"""SQuAD v1.1 (Rajpurkar et al. 2016, EMNLP) and v2.0 (2018, ACL), as published."""

import os
from collections.abc import Iterator
from pathlib import Path

import equinox as eqx

from .._files.refusal import FileRefusal
from ._reading import field, read_json, refusing

_PUBLISHED = "Get the file from its publisher."


class Question(eqx.Module):
    """One question about one paragraph.

    - `question_id`: text that names it.
    - `title`: of the article.
    - `context`: the paragraph.
    - `question`: what is asked.
    - `answers`: what people answered, parts of the paragraph; none where it does not say.
    - `starts`: first character of each answer in the paragraph.
    """

    question_id: str = eqx.field(static=True)
    title: str = eqx.field(static=True)
    context: str = eqx.field(static=True)
    question: str = eqx.field(static=True)
    answers: tuple[str, ...] = eqx.field(static=True)
    starts: tuple[int, ...] = eqx.field(static=True)


def stream_squad(path: str | os.PathLike[str]) -> Iterator[Question]:
    """Yield the questions of `train-v1.1.json`, `dev-v2.0.json` and their like, in order.

    The text is read whole (40 MB at most, as published) and checked as it is passed on.

    **Arguments:**

    - `path`: the file.

    **Raises:**

    - `ValueError`: if the file is missing, damaged, longer than 512 MiB or not in this
        format; if an answer begins outside of its paragraph; if a question of v1.1 has
        no answer, or one of v2.0 has answers and says that it is impossible.
    """
    with refusing("stream_squad", path):
        content = read_json(Path(path), "json.dump")
        for article in field(content, "data", list, "the file"):
            title = field(article, "title", str, "an article")
            for paragraph in field(article, "paragraphs", list, "an article"):
                context = field(paragraph, "context", str, "a paragraph")
                for asked in field(paragraph, "qas", list, "a paragraph"):
                    yield _question(asked, title, context)


def _question(asked, title, context):
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
            f"answers to {where}, or `is_impossible` and none",
            f"{len(answers)} answers and is_impossible={impossible}",
            _PUBLISHED,
        )
    text = field(asked, "question", str, where)
    return Question(name, title, context, text, tuple(answers), tuple(starts))
