import json
import os
import subprocess
import sys

import numpy as np
import pytest

import sedma_jax as sj
from sedma_jax._cli.main import main


@pytest.fixture
def url(tmp_path):
    url = f"sqlite:///{tmp_path}/m.db"
    with sj.memory.open(url) as memory:
        memory.record("partition", "dense", {"rows": 64}, [1.0, 3.0], features=[1.0])
        memory.record("partition", "[bold]sparse", {"rows": 128}, 0.5)
        memory.record("lambda", "smooth", {"lambda": 0.1}, 7.0)
    return url


def run(capsys, *arguments):
    try:
        code = main(["memory", *arguments])
    except SystemExit as stop:
        code = stop.code
    return code, *capsys.readouterr()


def test_show(capsys, url):
    code, out, err = run(capsys, "show", "--memory", url)
    assert (code, err) == (0, "")
    assert "3 patterns" in out and '{"rows": 64}' in out and "[bold]sparse" in out
    code, out, _ = run(capsys, "show", "--memory", url, "--json", "--kind", "partition")
    shown = json.loads(out)
    assert (code, shown["count"], shown["memory"]) == (0, 2, url)
    dense = shown["patterns"][1]
    assert dense["choice"] == {"rows": 64} and dense["features"] == [1.0]
    assert dense["spread"] == 2**0.5
    assert shown["patterns"][0]["spread"] is None
    out = run(capsys, "show", "--memory", url, "--workload", "smooth", "--limit", "0")[1]
    assert "1 patterns, 0 shown" in out


def test_export_import_and_prune(capsys, url, tmp_path):
    file, other = str(tmp_path / "out.jsonl"), f"sqlite:///{tmp_path}/other.db"
    code, out, _ = run(capsys, "export", file, "--memory", url, "--json")
    assert (code, json.loads(out)["exported"]) == (0, 3)
    code, out, _ = run(capsys, "import", file, "--memory", other, "--json")
    assert (code, json.loads(out)) == (0, {"memory": other, "imported": 3, "count": 3})
    code, out, err = run(capsys, "import", file, "--memory", other)
    assert (code, out) == (2, "") and err.startswith("sedma: ") and "--again" in err
    assert run(capsys, "import", file, "--memory", other, "--again")[0] == 0
    code, out, _ = run(capsys, "prune", "--keep", "1", "--memory", other)
    assert code == 0 and "2 patterns were deleted" in out
    with sj.memory.open(other) as memory:
        assert [p.count for p in memory.patterns()] == [4]


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["show", "--memory", "sqlite:///{}/missing.db"], 2, "exists"),
        (["export", "{}/o", "--memory", "sqlite:///{}/missing.db"], 2, "exists"),
        (["import", "{}/missing", "--memory", "sqlite:///{}/new.db"], 2, "No such file"),
        (["prune"], 2, "--keep"),
        (["prune", "--keep", "-1"], 2, "--keep"),
        (["prune", "--keep", "x"], 2, "whole number"),
        (["show", "--memory", "ftp://u:s3cret@h"], 2, "URL"),
        (["show", "--memory", "postgresql://u:s3cret@127.0.0.1:1/d"], 1, "refused"),
        ([], 2, "ACTION"),
    ],
)
def test_what_goes_wrong_is_one_line(capsys, tmp_path, arguments, code, message):
    arguments = [argument.format(tmp_path) for argument in arguments]
    status, out, err = run(capsys, *arguments)
    assert (status, out) == (code, "")
    assert err.startswith("sedma: ") and err.count("\n") == 1
    assert message in err and "s3cret" not in err


def test_the_default_memory_is_the_users_own(tmp_path):
    env = os.environ | {"XDG_DATA_HOME": str(tmp_path), "SEDMA_MEMORY": ""}
    (tmp_path / "in.jsonl").write_text(
        '{"format":"sedma-memory","version":1,"memory":"0123456789abcdef0123456789abcdef",'
        '"generation":0,"patterns":0}\n'
    )
    command = [sys.executable, "-W", "error", "-m", "sedma_jax._cli", "memory", "import"]
    done = subprocess.run([*command, "in.jsonl"], cwd=tmp_path, env=env)
    assert done.returncode == 0
    assert (tmp_path / "sedma" / "memory.db").exists()


@pytest.mark.slow
def test_a_second_run_recalls_what_the_first_one_wrote(capsys, tmp_path):
    np.save(tmp_path / "A.npy", np.random.default_rng(0).random((12, 9)))
    url = f"sqlite:///{tmp_path}/m.db"
    command = ["run", str(tmp_path / "A.npy"), "--device", "taox-hfox", "--memory", url]
    runs = []
    for _ in range(2):
        assert main([*command, "--json"]) == 0
        runs.append(json.loads(capsys.readouterr().out))
    assert [run["recalled"] > 0 for run in runs] == [False, True]
    assert [run["explored"] for run in runs] == [False, True]
    assert {"open", "recall", "learn"} <= runs[1]["seconds"].keys()
    with sj.memory.open(url) as memory:
        assert sum(p.count for p in memory.patterns("partition")) == 2
        before = len(memory)
    assert main(command) == 0
    shown = capsys.readouterr().out
    assert "patterns recalled" in shown and runs[0]["workload"] in shown
    with sj.memory.open(url) as memory:
        assert len(memory) >= before


def test_a_run_without_its_memory_computes_nothing(capsys, tmp_path):
    np.save(tmp_path / "A.npy", np.ones((2, 2)))
    url = "postgresql://u:s3cret@127.0.0.1:1/d"
    assert main(["run", str(tmp_path / "A.npy"), "--memory", url]) == 1
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1 and "s3cret" not in err
