"""`sedma serve` and `sedma job` as processes: signals, kill -9, strangers."""

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import numpy as np
import pytest
from comm_nodes import wait_until

from sedma_jax import comm, memory
from sedma_jax._cli.main import main
from sedma_jax._files.load import load_matrix

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]
MATRIX = ROOT / "data" / "west0067.mtx"


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def serve(tmp_path, cache):
    running = []

    def start(*arguments):
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "sedma_jax._cli", "serve", "--json"),
                *("--dir", tmp_path / "s", "--memory", f"sqlite:///{tmp_path / 'm.db'}"),
                *("--metrics", "0", "--compilation-cache", cache, *map(str, arguments)),
            ],
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"JAX_PLATFORMS": "cpu"},
        )
        running.append(process)
        return process, json.loads(process.stdout.readline())

    yield start
    for process in running:
        process.kill()
        process.wait()
        process.stdout.close()


@pytest.fixture
def client_key(tmp_path, capsys):
    key = tmp_path / "client.key"
    assert main(["job", "id", "--key", str(key)]) == 0
    return key, capsys.readouterr().out.strip()


def get(status, path):
    try:
        with urllib.request.urlopen(f"http://{status['http']}{path}") as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def exact():
    A = load_matrix(str(MATRIX)).astype(np.float32)
    return A, np.random.default_rng(0).random(A.shape[1]).astype(np.float32)


def test_health_on_ipv6_is_named_as_a_url_wants_it(serve, client_key):
    _, status = serve("--allow", client_key[1], "--metrics", "[::1]:0")
    assert status["http"].startswith("[::1]:")
    assert get(status, "/healthz") == (200, "ok\n")


def test_nothing_is_lost_when_it_is_killed(serve, client_key, tmp_path, capsys):
    key, name = client_key
    process, status = serve("--allow", name)
    A, x = exact()
    with comm.open_jobs(status["addresses"][0], key=key) as client:
        for seed in range(4):
            assert client.submit(A, x, seed=seed, id=f"job-{seed}")["state"] != "failed"
        running = lambda: client.status("job-0")["state"] == "running"
        assert wait_until(running, 60)
        process.send_signal(signal.SIGKILL)  # in the middle of it
        process.wait()
    process, status = serve("--allow", name)
    assert sum(status["jobs"].values()) == 4 and status["jobs"]["queued"] > 0
    at, job = ("--at", status["addresses"][0], "--key", str(key)), "job-0"
    assert get(status, "/healthz")[0] == get(status, "/readyz")[0] == 200
    out = tmp_path / "y.npy"
    assert main(["job", "result", job, *at, "--out", str(out), "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["attempts"] == 2 and record["cid"]
    error = np.linalg.norm(np.load(out) - A @ x) / np.linalg.norm(A @ x)
    assert error == pytest.approx(record["record"]["relative_l2_corrected"], rel=0.05)
    with comm.open_jobs(status["addresses"][0], key=key) as client:
        for seed in range(1, 4):
            y, done = client.result(f"job-{seed}")
            assert np.linalg.norm(y - A @ x) < 0.1 * np.linalg.norm(A @ x)
            assert done["record"]["seed"] == seed
        # Each on record once, and its later ones recalled what the first ones wrote.
        assert sorted(j["id"] for j in client.jobs()) == [f"job-{i}" for i in range(4)]
        assert done["record"]["recalled"] > 0
    assert 'sedma_jobs{state="done"} 4.0' in get(status, "/metrics")[1]
    assert main(["job", "list", *at]) == 0
    assert capsys.readouterr().out.count("done") == 4
    # A stranger does not get as far as a question.
    stranger = ("--at", status["addresses"][0], "--key", str(tmp_path / "stranger"))
    assert main(["job", "list", *stranger]) == 1
    assert "lets" in capsys.readouterr().err
    process.send_signal(signal.SIGTERM)
    assert json.loads(process.stdout.readline()) == {"left": 0, "given_up": 0}
    assert process.wait(20) == 0


def test_it_drains_on_sigterm(serve, client_key):
    key, name = client_key
    process, status = serve("--allow", name, "--grace", 120)
    A, x = exact()
    with comm.open_jobs(status["addresses"][0], key=key) as client:
        for i in range(3):
            client.submit(A, x, id=str(i))
        assert wait_until(lambda: client.status("0")["state"] == "running", 60)
        process.send_signal(signal.SIGTERM)
        assert wait_until(lambda: get(status, "/readyz")[0] == 503)
        with pytest.raises(comm.RemoteError, match="shutting down"):
            client.submit(A, x, id="late")
        # What runs is finished; the others wait for the next start.
        assert client.status("0", wait=60)["state"] in ("running", "done")
        assert json.loads(process.stdout.readline()) == {"left": 2, "given_up": 0}
        assert process.wait(20) == 0
    process, status = serve("--allow", name, "--grace", 0)
    with comm.open_jobs(status["addresses"][0], key=key) as client:
        assert client.status("0")["state"] == "done"
        assert wait_until(lambda: client.status("1")["state"] != "queued", 60)
        assert client.result("2")[1]["attempts"] == 1
        client.submit(A, x, seed=9, id="3")
        process.send_signal(signal.SIGTERM)  # no grace: what runs goes back
        left = json.loads(process.stdout.readline())
        assert process.wait(20) == 0
    process, status = serve("--allow", name)
    assert status["jobs"]["queued"] == left["left"]
    with comm.open_jobs(status["addresses"][0], key=key) as client:
        job = client.result("3")[1]
        assert job["attempts"] == 1  # being given up is no failed attempt


def test_thirty_kills_lose_no_job_and_count_no_reward_twice(serve, client_key, tmp_path):
    key, name = client_key
    A, x = exact()
    rng, accepted = np.random.default_rng(0), []
    for kill in range(30):
        process, status = serve("--allow", name, "--workers", 2)
        try:
            with comm.open_jobs(status["addresses"][0], key=key) as client:
                for _ in range(2):
                    id = f"job-{len(accepted)}"
                    client.submit(A, x, seed=len(accepted), id=id)
                    accepted.append(id)
                # In the middle of a start, a job, a reward or a product.
                time.sleep(rng.uniform(0, 6))
                process.send_signal(signal.SIGKILL)
                process.wait()
        except ConnectionError:
            assert kill < 30  # the client notices the end of the service
    process, status = serve("--allow", name, "--workers", 2)
    assert len(accepted) == 60 and sum(status["jobs"].values()) == 60
    with comm.open_jobs(status["addresses"][0], key=key) as client:
        for id in accepted:
            y, job = client.result(id, 900)
            assert job["state"] == "done"
            assert np.linalg.norm(y - A @ x) < 0.1 * np.linalg.norm(A @ x)
    assert status["jobs"]["failed"] == 0
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 0
    with memory.open(f"sqlite:///{tmp_path / 'm.db'}") as learnt:
        assert sum(p.count for p in learnt.patterns("partition")) == len(accepted)
