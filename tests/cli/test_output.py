"""Output that nobody reads, disks that are full, terminals that are narrow."""

import ast
import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from pathlib import Path

import pytest

import sedma_jax._cli._run.command
from sedma_jax._cli._terminal.tables import print_table
from sedma_jax._cli.main import main
from sedma_jax._progress import progress_bar

SEDMA = [sys.executable, "-m", "sedma_jax._cli"]
COMMANDS = ["--help", "--version", "bench list", "devices", "devices --json"]
RUNS = """\
from sedma_jax._cli._terminal.tables import print_table
figures = ("l2 raw", "l2 corrected", "linf raw", "linf corrected", "pulses")
figures += ("write energy J", "write latency s", "seconds")
row = ("0.0248", "9.123e-05", "0.0304", "0.000257", "41,511", "1.73e-06", "6.25", "12.1")
names = ("ag-asi", "alox-hfo2", "epiram", "taox-hfox")
print_table(("device", *figures), [(n, *row) for n in names], right=figures)
"""
PEER = """\
from sedma_jax._cli._terminal.tables import print_table
addresses = "/ip4/127.0.0.1/tcp/4001/p2p/12D3KooWQYhTNQdmr3ArTeUHRYzFg9" * 2 + "\\n/ip6/::1"
print_table(("id", "addresses", "[zone]"), [("Qm" * 22, addresses, "[red]:smile:")])
"""


def in_terminal(command, columns):
    """Exit status, and what a terminal of some columns is sent, without its colours."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    environment = {k: v for k, v in os.environ.items() if k not in ("COLUMNS", "LINES")}
    process = subprocess.Popen(
        command, stdout=theirs, stderr=theirs, env=environment | {"TERM": "xterm"}
    )
    os.close(theirs)
    seen = b""
    while True:
        try:
            part = os.read(ours, 4096)
        except OSError:  # how Linux tells the end
            break
        if not part:
            break
        seen += part
    os.close(ours)
    return process.wait(), re.sub(r"\x1b\[[?\d;]*[A-Za-z]", "", seen.decode())


@pytest.mark.parametrize("command", COMMANDS)
def test_a_reader_that_has_seen_enough_is_no_error(command):
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        [*SEDMA, *command.split()], stdout=write, stderr=subprocess.PIPE, text=True
    )
    os.close(write)
    assert (done.returncode, done.stderr) == (141, "")


@pytest.mark.parametrize("command", COMMANDS)
def test_a_full_disk_is_one_line(command):
    if not Path("/dev/full").exists():
        pytest.skip("there is no /dev/full")
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [*SEDMA, *command.split()], stdout=full, stderr=subprocess.PIPE, text=True
        )
    assert done.returncode == 1 and done.stderr.count("\n") == 1
    assert "No space left on device" in done.stderr


@pytest.mark.parametrize(
    ("closed", "status", "said"),
    [
        ("bench list >&-", 1, "sedma: the work failed: standard output is closed"),
        ("bench list 2>&-", 0, ""),
        ("bench list >&- 2>&-", 1, ""),
        ("run 2>&-", 2, ""),
        ("run 2>/dev/full", 2, ""),
        ("bench list <&-", 0, ""),
    ],
)
def test_closed_streams(closed, status, said):
    line = f"{sys.executable} -m sedma_jax._cli {closed}"
    done = subprocess.run(["sh", "-c", line], capture_output=True, text=True)
    assert done.returncode == status
    assert done.stderr.startswith(said) and done.stderr.count("\n") == bool(said)
    assert "sedma:" not in done.stdout


def test_names_that_the_encoding_lacks_are_printed(tmp_path):
    environment = os.environ | {"PYTHONIOENCODING": "ascii"}
    program = (
        "from sedma_jax._cli._terminal.streams import standard_streams\n"
        "with standard_streams(): print('µ\\udcff')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, env=environment, check=True
    )
    assert done.stdout == b"\\xb5\\udcff\n"


@pytest.mark.parametrize(
    ("error", "status", "said"),
    [
        (KeyboardInterrupt(), 130, "sedma: interrupted.\n"),
        (BrokenPipeError("a peer\nis gone"), 1, "sedma: the work failed: a peer is gone\n"),
        (MemoryError(), 1, "sedma: the work failed: MemoryError\n"),
        (ValueError("`x` needs\ny."), 2, "sedma: `x` needs y.\n"),
        (ImportError("install it"), 2, "sedma: install it\n"),
    ],
)
def test_failed_work_is_one_line(error, status, said, monkeypatch, capsys):
    def fail(options):
        raise error

    monkeypatch.setattr(sedma_jax._cli._run.command, "run_matrix", fail)
    assert main(["run", "A.npy"]) == status
    assert capsys.readouterr() == ("", said)


@pytest.mark.parametrize("columns", [20, 40, 60, 80, 100, 200])
@pytest.mark.parametrize("program", [RUNS, PEER], ids=["runs", "peer"])
def test_no_cell_of_a_table_is_cut(program, columns):
    status, seen = in_terminal([sys.executable, "-c", program], columns)
    lines = seen.splitlines()
    assert status == 0 and "…" not in seen and "..." not in seen
    assert max(map(len, lines)) <= columns
    # What is wrapped goes on in the same column of the next line.
    text = re.sub(r"[\s│┃]", "", seen)
    cells = {"9.123e-05", "41,511", "l2corrected"} if program is RUNS else {"/ip6/::1"}
    assert all(cell in text for cell in cells if columns >= 40)
    if program is PEER:
        assert "[red]:smile:" in text and "[zone]" in text
        assert text.count("Qm") >= 21  # one may be folded


def test_a_pipe_has_any_width(capsys):
    print_table(("a", "b"), [("x" * 500, "y\nz")], title="t" * 300)
    printed = capsys.readouterr().out
    assert "x" * 500 in printed and "t" * 300 in printed


def test_devices_fit_the_narrowest_terminal_and_tell_the_measured_arrays():
    status, seen = in_terminal([*SEDMA, "devices"], 40)
    assert status == 0 and "…" not in seen and max(map(len, seen.splitlines())) <= 40
    for name in ("wan-2022", "cmo-hfox", "milo-2021", "pcm", "hermes-1", "hermes-2"):
        assert name in seen
    # Wan et al. (2022), Extended Data Fig. 3, in units of 40 uS: at g = 20 uS the spread is
    # .348 + 16.03/2 - 43.853/4 + 45.393/8 - 16.815/16 = 2.0230 uS.
    assert "0.0506" in seen
    # Agrawal et al. (2022): 19.88665 (1 - exp(-1600/176.3)) nA of 3200 nA.
    assert "sonos" in seen and "0.00621" in seen


def test_all_tables_are_those_that_fit():
    for path in Path(sedma_jax._cli.__file__).parent.rglob("*.py"):
        calls = {
            ast.unparse(node.func)
            for node in ast.walk(ast.parse(path.read_text()))
            if isinstance(node, ast.Call)
        }
        assert "Table" not in calls or path.name == "tables.py"


BAR = """\
import time
from sedma_jax._progress import progress_bar
with progress_bar("work", {options}) as report:
    {work}
    time.sleep({seconds})
"""


def bar(columns=80, seconds=1.4, work="pass", options="total=lambda: 1"):
    program = BAR.format(seconds=seconds, work=work, options=options)
    return in_terminal([sys.executable, "-c", program], columns)


@pytest.mark.parametrize("columns", [40, 80])
def test_one_partition_has_a_total_from_the_start(columns):
    status, seen = bar(columns)
    assert status == 0 and "0/1 partitions" in seen
    assert "?" not in seen and "…" not in seen


def test_slices_are_counted_together():
    work = "[report(n, 2) for _ in range(3) for n in (1, 2)]"
    assert "6/6 partitions" in bar(work=work, options="total=lambda: 2, rounds=3")[1]


def test_short_work_shows_no_bar_and_an_unknown_total_no_count():
    assert bar(seconds=0.2) == (0, "")
    seen = bar(options="'MB'")[1]
    assert "work" in seen and "?" not in seen and "MB" not in seen


def test_no_bar_without_a_terminal(capsys):
    with progress_bar("work", total=lambda: 1 / 0) as report:
        assert report is None
    assert capsys.readouterr() == ("", "")
