"""A Helia node in a process of its own, installed from npm into `build/` once.

Tests that need it are skipped without npm or its registry; with SEDMA_REQUIRE_SERVICES=1
they fail.
"""

import fcntl
import hashlib
import json
import platform
import shutil
import subprocess
import threading
from contextlib import contextmanager
from pathlib import Path
from queue import Empty, Queue

from services import missing

SOURCE = Path(__file__).parent / "interop"
FILES = (".npmrc", "package.json", "package-lock.json", "peer.mjs")
ARCHITECTURES = {"x86_64": "x64", "aarch64": "arm64"}
SECONDS = 60


def _install():
    """The folder in which the locked versions are installed."""
    if shutil.which("npm") is None:
        missing("npm", FileNotFoundError("install npm, as `apt-get install npm` does"))
    content = b"".join((SOURCE / name).read_bytes() for name in FILES)
    build = SOURCE.parent.parent / "build"
    folder = build / f"interop-{hashlib.sha256(content).hexdigest()[:12]}"
    build.mkdir(exist_ok=True)
    with (build / "interop.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if (folder / "installed").exists():
            return folder
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        for name in FILES:
            shutil.copy(SOURCE / name, folder)
        ran = subprocess.run(["npm", "ci"], cwd=folder, capture_output=True, text=True)
        if ran.returncode:
            missing("the npm registry", RuntimeError(ran.stderr[-2000:]))
        (folder / "installed").touch()
    return folder


class Helia:
    """Send commands to a Helia node, and wait for its answers."""

    def __init__(self, process):
        self._process, self._answers = process, Queue()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self):
        for line in self._process.stdout:
            self._answers.put(line)

    def __call__(self, op, **fields):
        """The result of an operation of `peer.mjs`; raises its error."""
        self._process.stdin.write(json.dumps({"op": op, **fields}) + "\n")
        self._process.stdin.flush()
        try:
            answer = json.loads(self._answers.get(timeout=SECONDS))
        except Empty:
            raise TimeoutError(f"Helia did not answer to {op}") from None
        if "error" in answer:
            raise RuntimeError(f"Helia could not {op}: {answer['error']}")
        return answer["result"]


@contextmanager
def running_helia():
    """A Helia node while the block runs."""
    folder = _install()
    machine = ARCHITECTURES.get(platform.machine())
    node = folder / f"node_modules/node-linux-{machine}/bin/node"
    process = subprocess.Popen(
        [node if node.exists() else "node", "peer.mjs"],  # Helia needs 22, Debian has less
        cwd=folder,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        yield Helia(process)
    finally:
        process.kill()
        process.wait()
        process.stdin.close()
        process.stdout.close()
