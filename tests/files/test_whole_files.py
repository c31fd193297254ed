"""Where outputs go: devices, pipes, links, and files with a mode and an owner."""

import os
import stat
import threading
from pathlib import Path

import pytest

from sedma_jax._files.whole_files import check_target, replacing


def write(path, content=b"new"):
    with replacing(path) as part:
        part.write_bytes(content)


def test_a_new_file_gets_what_the_umask_leaves(tmp_path):
    for mask, mode in ((0o022, 0o644), (0o077, 0o600), (0o002, 0o664)):
        before = os.umask(mask)
        try:
            write(tmp_path / oct(mask))
        finally:
            os.umask(before)
        assert stat.S_IMODE((tmp_path / oct(mask)).stat().st_mode) == mode


def test_a_file_keeps_its_mode_and_owner(tmp_path):
    path = tmp_path / "f"
    path.write_bytes(b"old")
    path.chmod(0o640)
    if os.geteuid() == 0:
        os.chown(path, 12345, 12346)
    before = path.stat()
    write(path)
    after = path.stat()
    assert path.read_bytes() == b"new"
    assert (after.st_mode, after.st_uid, after.st_gid) == (
        *(before.st_mode, before.st_uid, before.st_gid),
    )
    assert list(tmp_path.iterdir()) == [path]


def test_nobody_else_reads_what_is_being_written(tmp_path):
    path = tmp_path / "f"
    path.write_bytes(b"old")
    path.chmod(0o600)
    with replacing(path) as part:
        assert stat.S_IMODE(part.stat().st_mode) == 0o600
        part.write_bytes(b"new")


def test_a_link_stays_and_its_target_is_replaced(tmp_path):
    (tmp_path / "there").mkdir()
    target, link = tmp_path / "there" / "f", tmp_path / "link"
    link.symlink_to(target)
    for content in (b"made through the link", b"replaced through it"):
        write(link, content)
        assert link.is_symlink() and target.read_bytes() == content
    assert list((tmp_path / "there").iterdir()) == [target]


def test_an_error_leaves_the_old_file(tmp_path):
    path = tmp_path / "f"
    path.write_bytes(b"old")
    with pytest.raises(ZeroDivisionError):
        with replacing(path) as part:
            part.write_bytes(b"half of the n")
            raise ZeroDivisionError
    assert path.read_bytes() == b"old" and list(tmp_path.iterdir()) == [path]


def test_a_pipe_gets_the_content(tmp_path):
    path, found = tmp_path / "pipe", []
    os.mkfifo(path)
    reader = threading.Thread(target=lambda: found.append(path.read_bytes()))
    reader.start()
    write(path, b"x" * 10**6)
    reader.join()
    assert found == [b"x" * 10**6] and stat.S_ISFIFO(path.stat().st_mode)


def test_a_pipe_that_nobody_reads_is_no_trap(tmp_path, monkeypatch):
    monkeypatch.setattr("sedma_jax._files.whole_files._PATIENCE", 0.1)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError, match="No such device or address"):
        write(tmp_path / "pipe")


def test_a_device_stays_a_device(tmp_path):
    path = tmp_path / "null"
    try:
        os.mknod(path, stat.S_IFCHR | 0o666, os.makedev(1, 3))
    except PermissionError:
        pytest.skip("only root makes devices")
    write(path)
    assert stat.S_ISCHR(path.stat().st_mode)
    full = tmp_path / "full"
    os.mknod(full, stat.S_IFCHR | 0o666, os.makedev(1, 7))
    with pytest.raises(OSError, match="No space left"):
        write(full)
    assert stat.S_ISCHR(full.stat().st_mode)


def test_standard_output_is_a_target():
    reader, writer = os.pipe()
    try:
        write(Path(f"/dev/fd/{writer}"))
        assert os.read(reader, 10) == b"new"
    finally:
        os.close(reader)
        os.close(writer)


@pytest.mark.parametrize(
    "name, told", [("", "a folder"), ("no/f", "no folder"), ("loop", "symbolic links")]
)
def test_what_is_no_file_is_refused_before_the_work(tmp_path, name, told):
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(ValueError, match=told):
        check_target(tmp_path / name)
    with pytest.raises(ValueError, match=told):
        write(tmp_path / name)


def test_a_name_of_any_length_is_written(tmp_path):
    write(tmp_path / ("n" * 255))
    assert (tmp_path / ("n" * 255)).read_bytes() == b"new"
