"""SQuAD v1.1 and v2.0, as small files in the published format."""

import copy
import json

import pytest

from sedma_jax import data

CONTEXT = "Crossbars multiply in place. They were proposed in 1961 by Steinbuch."
YEAR = CONTEXT.index("1961")
V1 = {
    "version": "1.1",
    "data": [
        {
            "title": "Crossbar",
            "paragraphs": [
                {
                    "context": CONTEXT,
                    "qas": [
                        {
                            "id": "q0",
                            "question": "When?",
                            "answers": [
                                {"text": "1961", "answer_start": YEAR},
                                {
                                    "text": "in 1961",
                                    "answer_start": YEAR - 3,
                                },
                            ],
                        }
                    ],
                }
            ],
        }
    ],
}
V2 = copy.deepcopy(V1)
V2["version"] = "v2.0"
V2["data"][0]["paragraphs"][0]["qas"] += [
    {
        "id": "q1",
        "question": "Where?",
        "answers": [],
        "is_impossible": True,
        "plausible_answers": [{"text": "place", "answer_start": 22}],
    }
]


def test_questions_of_both_versions(save):
    (only,) = data.stream_squad(save("dev-v1.1.json", json.dumps(V1)))
    assert only.question_id == "q0" and only.title == "Crossbar"
    assert only.context == CONTEXT and only.question == "When?"
    assert only.answers == ("1961", "in 1961")
    for answer, start in zip(only.answers, only.starts, strict=True):
        assert CONTEXT[start:].startswith(answer)
    first, second = data.stream_squad(save("dev-v2.0.json", json.dumps(V2)))
    assert first == only
    assert second.answers == () and second.starts == ()


def changed(**values):
    content = copy.deepcopy(V2)
    content["data"][0]["paragraphs"][0]["qas"][0] |= values
    return json.dumps(content)


@pytest.mark.parametrize(
    "content, words",
    [
        ("", "intact JSON file"),
        ("\udcff".encode("utf-8", "surrogatepass"), "intact JSON file"),
        ("{}", "a list as `data` of the file. Got None"),
        ('{"data": [3]}', "text as `title` of an article. Got no object"),
        (changed(question=None), "text as `question` of question 'q0'"),
        (changed(answers=[]), "or none and `is_impossible`"),
        (changed(is_impossible=True), "or none and `is_impossible`"),
        (changed(is_impossible=0), "`is_impossible` of question 'q0'. Got 0"),
        (changed(answers=[{"text": "x", "answer_start": 999}]), "one that starts at 999"),
        (changed(answers=[{"text": "x", "answer_start": -1}]), "one that starts at -1"),
        (changed(answers=[{"text": 5, "answer_start": 0}]), "text as `text` of an answer"),
    ],
)
def test_refuses_what_is_not_in_the_format(save, content, words):
    with pytest.raises(ValueError) as raised:
        list(data.stream_squad(save("dev.json", content)))
    message = str(raised.value)
    assert words in message and "dev.json' needs" in message and "\n" not in message


def test_a_file_over_the_limit_is_not_read(tmp_path):
    path = tmp_path / "dev.json"
    with open(path, "wb") as file:
        file.truncate(2**29 + 1)  # takes no room on disk
    with pytest.raises(ValueError, match="at most 536,870,912 bytes"):
        next(data.stream_squad(path))


def test_a_folder_is_no_file(tmp_path):
    with pytest.raises(ValueError, match="a regular file"):
        next(data.stream_squad(tmp_path))
    with pytest.raises(ValueError, match="No such file"):
        next(data.stream_squad(tmp_path / "missing.json"))
