"""A compiled workflow is built and run: by podman, by compose, and from manifests."""

import base64
import json
import shutil
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
import uuid
from pathlib import Path

import numpy as np
import pytest
import yaml
from containers import BASE, Podman, import_base, missing
from workflows import SECRET

from sedma_jax import deploy
from sedma_jax._cli.main import main

pytestmark = pytest.mark.slow
EXAMPLE = Path(__file__).parents[2] / "docs/refinement"
SECONDS = 180  # until agents answer, on a machine that does other things too


@pytest.fixture(scope="module")
def podman(tmp_path_factory):
    return Podman(tmp_path_factory.mktemp("podman"))


@pytest.fixture(scope="module")
def built(podman, tmp_path_factory):
    """The folder of the example, compiled, with its image built."""
    folder = tmp_path_factory.mktemp("refinement")
    import_base(podman, folder)
    spec = folder / "workflow.yaml"
    # One checker: podman has no Service, which would share calls among replicas.
    text = (EXAMPLE / "workflow.yaml").read_text().replace(", replicas: 2", "")
    spec.write_text(text)
    assert main(["deploy", "compile", str(spec), "--out", str(folder)]) == 0
    shutil.copy(EXAMPLE / "refinement.py", folder)
    image = "localhost/refinement:latest"
    # The base image has the packages; no package index is asked.
    arguments = [f"--build-arg={a}" for a in (f"BASE={BASE}", "PIP=", "SEDMA=")]
    podman("build", *arguments, "-t", image, str(folder))
    yield folder
    podman("rmi", "--force", image, BASE, check=False)


def solved(url, logs):
    """Ask the front for a solution until it answers; compare with NumPy's."""
    random = np.random.default_rng(0)
    A = random.normal(size=(12, 12)) + 12 * np.eye(12)
    b = random.normal(size=12)
    request = json.dumps({"A": A.tolist(), "b": b.tolist()}).encode()
    end = time.monotonic() + SECONDS
    while True:
        try:
            with urllib.request.urlopen(url, request, timeout=60) as response:
                answer = json.load(response)
            break
        except (OSError, urllib.error.URLError) as error:
            if time.monotonic() > end:
                raise AssertionError(f"no answer: {error}\n{logs()}") from error
            time.sleep(1)
    np.testing.assert_allclose(answer["x"], np.linalg.solve(A, b), atol=1e-9)
    assert answer["residual"] < 1e-9


def address_of(podman, container):
    found = json.loads(podman("inspect", container))[0]["NetworkSettings"]
    address = found["IPAddress"] or next(iter(found["Networks"].values()))["IPAddress"]
    return f"http://{address}:8080/"


def test_agents_answer_each_other_in_containers(podman, built):
    services = yaml.safe_load((built / "compose.yaml").read_text())["services"]
    network = f"sedma-{uuid.uuid4().hex[:8]}"
    podman("network", "create", network)
    names = {agent: f"{network}-{agent}" for agent in services}
    try:
        for agent, service in services.items():
            environment = service["environment"] | {"SEDMA_SECRET": SECRET}
            podman(
                "run",
                "--detach",
                f"--name={names[agent]}",
                f"--network={network}",
                f"--network-alias={agent}",
                f"--memory={service['mem_limit']}",
                "--read-only",
                "--cap-drop=ALL",
                *(f"--env={k}={v}" for k, v in environment.items()),
                service["image"],
            )
        logs = lambda: "\n".join(podman("logs", n, check=False) for n in names.values())
        solved(address_of(podman, names["front"]), logs)
        inspected = json.loads(podman("inspect", names["solver"]))[0]["HostConfig"]
        assert inspected["Memory"] == 128 * 2**20
    finally:
        podman("rm", "--force", "--time=2", *names.values(), check=False)
        podman("network", "rm", "--force", network, check=False)


def test_compose_runs_the_same(podman, built):
    try:
        import podman_compose
    except ImportError:
        missing("podman-compose is not installed")
    project = f"sedma{uuid.uuid4().hex[:8]}"

    def compose(*arguments):
        return subprocess.run(
            [sys.executable, podman_compose.__file__, "-p", project, *arguments],
            cwd=built,
            env=podman.environment | {"SEDMA_SECRET": SECRET},
            capture_output=True,
            text=True,
            timeout=300,
        )

    try:
        started = compose("up", "--detach", "--no-build")
        assert started.returncode == 0, started.stderr[-2000:]
        solved(
            address_of(podman, f"{project}_front_1"), lambda: compose("logs").stdout[-4000:]
        )
    finally:
        compose("down", "--timeout", "2")


def test_the_deployments_run_under_podman_and_memory_is_limited(podman, built):
    """One agent with its ConfigMap is run: podman has no Services between pods."""
    documents = yaml.safe_load_all((built / "manifests/10-checker.yaml").read_text())
    found = [d for d in documents if d["kind"] in ("ConfigMap", "Deployment")]
    # By itself: what `kube play` of podman 4.3 makes of a Secret it cannot read again.
    secret = {"SEDMA_SECRET": base64.b64encode(SECRET.encode()).decode()}
    (built / "secret.json").write_text(json.dumps(secret))
    podman("secret", "rm", "refinement-identity", check=False)  # of a run cut short
    podman("secret", "create", "refinement-identity", str(built / "secret.json"))
    assert deploy.validate(found) == []
    path = built / "play.yaml"
    path.write_text(yaml.safe_dump_all(found))
    podman("kube", "play", str(path))
    try:
        (pod,) = [
            name
            for name in podman("ps", "--format={{.Names}}").split()
            if name.startswith("checker-pod") and name.endswith("-agent")
        ]
        limits = json.loads(podman("inspect", pod))[0]["HostConfig"]
        assert limits["Memory"] == 512 * 2**20
        # Taking more than that ends the process that does.
        code = "x = bytearray(800 * 2**20); x[::4096] = b'x' * len(x[::4096]); print('all')"
        assert "all" not in podman("exec", pod, "python3", "-c", code, check=False)
    finally:
        podman("kube", "down", str(path), check=False)
        podman("secret", "rm", "refinement-identity", check=False)


def test_a_pod_of_64_mib_lives_through_bodies_of_60_mib(podman, built):
    """Its limit is that of its cgroup: nobody tells the server."""
    name = f"sedma-{uuid.uuid4().hex[:8]}"
    ports = ["--env=SEDMA_ENTRY=refinement:checker", "--env=SEDMA_PORTS=http=8080"]
    limit = ["--memory=64m", "--memory-swap=64m", "--read-only", "--cap-drop=ALL"]
    podman("run", "--detach", f"--name={name}", *limit, *ports, "localhost/refinement")
    answers = []

    def send(size):
        try:
            with urllib.request.urlopen(url, b"[" * size, timeout=60) as response:
                answers.append(response.status)
        except urllib.error.HTTPError as error:
            answers.append(error.code)
            error.close()
        except OSError:  # refused while it was still being sent
            answers.append(413)

    try:
        url = address_of(podman, name)
        system = {"A": [[2.0]], "b": [4.0], "x": [1.0]}
        request = json.dumps(system).encode()
        end = time.monotonic() + SECONDS
        while True:
            try:
                assert urllib.request.urlopen(url, timeout=9).read() == b"ready"
                break
            except OSError:
                assert time.monotonic() < end, podman("logs", name, check=False)
                time.sleep(0.1)
        sizes = [60 * 2**20] * 20 + [3 * 2**20] * 20
        threads = [threading.Thread(target=send, args=(size,)) for size in sizes]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(answers) == [413] * 20 + [500] * 20  # the latter are no JSON
        with urllib.request.urlopen(url, request, timeout=60) as response:
            assert json.load(response) == 2.0
        state = json.loads(podman("inspect", name))[0]["State"]
        assert state["Running"] and not state["OOMKilled"]
    finally:
        podman("rm", "--force", "--time=2", name, check=False)
