import json
import subprocess
import sys
from pathlib import Path

import pytest
from services import postgres_schema, redis_server

import sedma_jax as sj


@pytest.fixture
def postgres():
    with postgres_schema() as url:
        yield url


@pytest.fixture
def redis_url():
    with redis_server() as url:
        yield url


@pytest.fixture(params=["sqlite", "postgres"])
def url(request, tmp_path):
    """URL of a new memory, in each kind of database."""
    if request.param == "postgres":
        return request.getfixturevalue("postgres")
    return f"sqlite:///{tmp_path}/memory.db"


@pytest.fixture
def opened(url):
    with sj.memory.open(url) as memory:
        yield memory


class OtherProcess:
    """A process that evaluates Python with `sj` and `memory`, one line at a time."""

    def __init__(self):
        script = Path(__file__).with_name("other_process.py")
        self._process = subprocess.Popen(
            [sys.executable, "-W", "error", str(script)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def start(self, line):
        self._process.stdin.write(json.dumps(line) + "\n")
        self._process.stdin.flush()

    def finish(self):
        answer = self._process.stdout.readline()
        assert answer, "the other process died"
        answer = json.loads(answer)
        assert not isinstance(answer, dict), answer
        return answer

    def run(self, line):
        self.start(line)
        return self.finish()

    def wait(self):
        return self._process.wait(60)

    def kill(self):
        self._process.kill()
        self._process.communicate()


@pytest.fixture(scope="module")
def others():
    """Two processes; importing JAX twice takes long enough once a file."""
    processes = [OtherProcess(), OtherProcess()]
    yield processes
    for process in processes:
        process.kill()


@pytest.fixture
def other():
    """A process that may die."""
    process = OtherProcess()
    yield process
    process.kill()
