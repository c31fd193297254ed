"""The processes of `soak.py`: nodes and a job service that are killed and started again."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import psutil

from bench.shared import ROOT
from sedma_jax import comm

START_SECONDS = 120.0


def free_port() -> int:
    """A TCP port that is free now; a process that is started again needs the same one."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Daemon:
    """A `sedma` command that runs until it is killed, and may be started again."""

    def __init__(self, name: str, folder: Path, command: list[Any], cache: Path):
        self.name, self.folder, self.port = name, folder, free_port()
        folder.mkdir(parents=True)
        self.id = comm.key_id(folder / "key")
        self.command = [*(sys.executable, "-m", "sedma_jax._cli"), *command]
        self.command += ["--dir", folder, "--json", "--listen", self.listen]
        self.environment = os.environ | {
            "JAX_PLATFORMS": "cpu",
            "SEDMA_COMPILATION_CACHE": str(cache),
        }
        self.process: subprocess.Popen | None = None
        self.up, self.ends = False, 0

    @property
    def listen(self) -> str:
        return f"/ip4/127.0.0.1/tcp/{self.port}"

    @property
    def address(self) -> str:
        return f"{self.listen}/p2p/{self.id}"

    def start(self) -> dict:
        """Start it; what it says once it runs."""
        with (self.folder.parent / f"{self.name}.log").open("ab") as log:
            self.process = process = subprocess.Popen(
                [*map(str, self.command)],
                cwd=ROOT,
                env=self.environment,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        assert process.stdout is not None
        late = threading.Timer(START_SECONDS, process.kill)
        late.start()
        line = process.stdout.readline()
        late.cancel()
        if not line:
            raise RuntimeError(
                f"`bench.comm.soak` needs {self.name} to start. Got its end, status "
                f"{process.wait()}. Read {self.folder.parent / self.name}.log."
            )
        self.up = True
        return json.loads(line)

    @property
    def ended_alone(self) -> bool:
        """Whether it has ended without having been killed."""
        return self.process is not None and self.process.poll() is not None

    def kill(self) -> None:
        """End it as the system does when memory runs out."""
        process, self.process, self.up = self.process, None, False
        if process is None:
            return
        self.ends += process.poll() is not None
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert process.stdout is not None
        process.stdout.close()

    def workers(self) -> list[psutil.Process]:
        """The processes that it has started."""
        try:
            process = self.process
            return psutil.Process(process.pid).children() if process else []
        except psutil.NoSuchProcess:
            return []

    def figures(self) -> list[float] | None:
        """As `figures_of`; None while it is down."""
        process = self.process if self.up else None
        return figures_of(process.pid) if process else None


def figures_of(pid: int) -> list[float] | None:
    """Memory (RSS, PSS; MB), descriptors, mappings and threads of a process."""
    folder = Path(f"/proc/{pid}")
    try:
        lines = (folder / "smaps_rollup").read_text().splitlines()
        kilobytes = {l.split()[0]: int(l.split()[1]) for l in lines[1:]}
        return [
            round(kilobytes["Rss:"] * 1024 / 1e6, 1),
            round(kilobytes["Pss:"] * 1024 / 1e6, 1),
            len(list((folder / "fd").iterdir())),
            (folder / "maps").read_bytes().count(b"\n"),
            len(list((folder / "task").iterdir())),
        ]
    except (OSError, KeyError, IndexError):
        return None  # it has just ended


def five_nodes(folder: Path, friends: list[str]) -> list[Daemon]:
    """Five nodes, of which the last two are open; the first two are joined by all."""
    nodes = [
        Daemon(f"node-{i}", folder / f"node-{i}", ["node", "start"], folder / "cache")
        for i in range(5)
    ]
    for i, node in enumerate(nodes):
        others = [other for other in nodes if other is not node]
        for name in [*(other.id for other in others), *friends]:
            node.command += ["--allow", name]
        for other in nodes[:2]:
            node.command += ["--join", other.address] if other is not node else []
        node.command += ["--capacity", 64, "--disk", 4000]
        node.command += ["--open"] if i >= 3 else ["--replicas", 2]
    return nodes


def job_service(folder: Path, client: str) -> Daemon:
    """A service with two workers, for one client."""
    memory = ["--memory", f"sqlite:///{folder / 'memory.db'}", "--worker-memory", 3000]
    limits = ["--workers", 2, "--keep", 100, "--allow", client]
    command = ["serve", *memory, *limits]
    return Daemon("service", folder / "service", command, folder / "cache")
