"""A compiled multi-host JAX job, its processes started here as the manifest says."""

import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from sedma_jax import deploy

ROOT = Path(__file__).parents[2]
WORKFLOW = """\
name: scale
agents:
  - {name: front, entry: "tour:front", memory: 64Mi, cpu: 100m}
jobs:
  - name: train
    image: local/train:1
    command: [python, bench/core/scale_out.py, --size, "256", --array, "64", --steps, "2"]
    processes: 2
    memory: 1Gi
    cpu: 1
"""


def test_the_manifest_of_the_docs_is_valid():
    count, refusals = deploy.validate_files([ROOT / "docs/indexed-job.yaml"])
    assert count == 2 and refusals == []


@pytest.mark.slow
def test_processes_started_as_the_manifest_says_agree():
    files = deploy.compile(deploy.parse_workflow(WORKFLOW))
    documents = list(yaml.safe_load_all(files["manifests/20-train.yaml"]))
    (job,) = [d for d in documents if d["kind"] == "Job"]
    (service,) = [d for d in documents if d["kind"] == "Service"]
    spec = job["spec"]
    (container,) = spec["template"]["spec"]["containers"]
    environment = {entry["name"]: entry["value"] for entry in container["env"]}
    # Pods are named by job and index, and found by the name of the Service.
    host, port = environment["JAX_COORDINATOR"].split(":")
    assert host == f"{job['metadata']['name']}-0.{service['metadata']['name']}"
    assert int(port) == container["ports"][0]["containerPort"]
    with socket.create_server(("127.0.0.1", 0)) as free:
        environment["JAX_COORDINATOR"] = f"127.0.0.1:{free.getsockname()[1]}"
    command = [sys.executable, *container["command"][1:]]
    running = [
        subprocess.Popen(
            command,
            cwd=ROOT,
            env=os.environ
            | environment
            | {"JOB_COMPLETION_INDEX": str(index), "JAX_PLATFORMS": "cpu"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for index in range(spec["completions"])
    ]
    try:
        said = [process.communicate(timeout=240)[0] for process in running]
    finally:
        for process in running:
            process.kill()
            process.wait()
    assert [process.returncode for process in running] == [0, 0], said
    cells = {re.search(r"cells ([0-9a-f]{32})", text)[1] for text in said}
    assert len(cells) == 1
    for index, text in enumerate(said):
        assert f"process {index} of 2" in text
