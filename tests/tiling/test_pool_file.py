import json

import numpy as np
import pytest

import sedma_jax as sj
from sedma_jax._cli.main import main

TOML = """
[[arrays]]
device = "epiram"
rows = 4
cols = 4
count = 1

[[arrays]]
device = "TAOX_HFOX"
rows = 2
cols = 3
count = 2
"""
KINDS = [
    {"device": "epiram", "rows": 4, "cols": 4, "count": 1},
    {"device": "taox-hfox", "rows": 2, "cols": 3, "count": 2},
]


def test_toml_and_json_say_the_same(tmp_path):
    expected = sj.Pool(
        [
            sj.ArrayKind(4, 4, 1, sj.devices.EPIRAM),
            sj.ArrayKind(2, 3, 2, sj.devices.TAOX_HFOX),
        ]
    )
    (tmp_path / "pool.toml").write_text(TOML)
    (tmp_path / "pool.json").write_text(json.dumps({"arrays": KINDS}))
    for name in ("pool.toml", "pool.json"):
        assert sj.load_pool(str(tmp_path / name)) == expected


def altered(**fields):
    return json.dumps({"arrays": [KINDS[0] | fields]})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "TOML, or JSON"),
        ("[" * 100_000, "TOML, or JSON"),
        ("[1]", "one list `arrays`"),
        ('{"arrays": [], "more": 1}', "one list `arrays`"),
        ('{"arrays": []}', "at least one table"),
        ('{"arrays": [3]}', "exactly the fields device, rows, cols, count in array 1"),
        ('{"arrays": [{"rows": 3}]}', "exactly the fields"),
        (altered(device="pcm"), "one of ag-asi, alox-hfo2, epiram, taox-hfox"),
        (altered(rows=0), "whole `rows` of array 1"),
        (altered(cols=2.5), "whole `cols` of array 1"),
        (altered(count=True), "whole `count` of array 1"),
        (altered(count="many" * 99), "whole `count` of array 1"),
    ],
)
def test_files_that_say_something_else_are_refused(tmp_path, capsys, text, message):
    path = tmp_path / "pool.json"
    path.write_text(text)
    np.save(tmp_path / "a.npy", np.ones((3, 3)))
    assert main(["run", str(tmp_path / "a.npy"), "--pool", str(path)]) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.count("\n") == 1
    assert len(shown.err) < 400 + len(str(path))
    assert message in shown.err


@pytest.mark.parametrize(
    "more", [["--array", "8x8"], ["--arrays", "2"], ["--device", "epiram"], []]
)
def test_a_pool_stands_alone_and_has_to_exist(tmp_path, capsys, more):
    np.save(tmp_path / "a.npy", np.ones((3, 3)))
    missing = str(tmp_path / "none.toml")
    assert main(["run", str(tmp_path / "a.npy"), "--pool", missing, *more]) == 2
    error = capsys.readouterr().err
    assert (f"Got {more[0]} as well" if more else "No such file") in error


def test_run_on_a_pool(tmp_path, capsys):
    matrix, pool = tmp_path / "a.npy", tmp_path / "pool.toml"
    np.save(matrix, np.random.default_rng(0).normal(size=(6, 7)))
    pool.write_text(TOML)
    arguments = ["run", str(matrix), "--pool", str(pool), "--float64"]
    assert main([*arguments, "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    plan = sj.plan_partitions((6, 7), sj.load_pool(str(pool)))
    assert result["partitions"] == len(plan.rectangles) == sum(plan.counts)
    assert result["passes"] == plan.passes
    assert result["memory_efficiency"] == plan.memory_efficiency
    assert result["device"] == "epiram+taox-hfox"
    assert result["pool"] == [
        kind | {"arrays": arrays, "partitions": partitions}
        for kind, arrays, partitions in zip(KINDS, plan.arrays, plan.counts, strict=True)
        if partitions  # Eq. 4 leaves kinds out that cost more
    ]
    assert 0 < result["relative_l2_corrected"] < result["relative_l2_raw"] < 0.1
    assert main(arguments) == 0
    used = ", ".join(f"{kind['rows']} x {kind['cols']}" for kind in result["pool"])
    assert f"partitions of {used}, memory efficiency" in capsys.readouterr().out
