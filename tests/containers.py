"""Containers by podman, for the tests that run compiled workflows. No registry is asked.

The base image is this Python with the packages that agents import, and the system's
libraries that those load. Without podman the tests are skipped, or fail if
SEDMA_REQUIRE_SERVICES is 1.
"""

import importlib.metadata
import io
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
from pathlib import Path

from missing import missing

ROOT = Path(__file__).parents[1]
BASE = "localhost/sedma-test-base"
PYTHON = "opt/python"  # in the image
SITE = f"{PYTHON}/lib/python3.{sys.version_info.minor}/site-packages"

# For machines where root lacks some of its rights: limits below podman's defaults, and
# runc, which accepts mixed versions of cgroups.
SETTINGS = """\
[containers]
default_ulimits=["nofile=1024:1024","nproc=1024:1024"]
[engine]
runtime="runc"
cgroup_manager="cgroupfs"
events_logger="file"
"""

LOADED = """
import importlib, sys
for name in "sedma_jax._public sedma_jax.comm grpc.aio uvicorn h11 click".split():
    importlib.import_module(name)
for name in sorted({name.partition(".")[0] for name in sys.modules}):
    module = sys.modules.get(name)
    found = [getattr(module, "__file__", None) or ""]
    if not found[0]:  # a namespace
        found = list(getattr(module, "__path__", []))
    for path in found:
        if "-packages" in path and name[:2] != "__":
            print(path)
"""


class Podman:
    """Podman with settings of its own."""

    def __init__(self, folder: Path):
        if shutil.which("podman") is None or shutil.which("runc") is None:
            missing("podman and runc are not installed: `bash .ci/services` installs them")
        if os.geteuid() != 0:
            missing("containers with limits of memory need root")
        (folder / "containers.conf").write_text(SETTINGS)
        self.environment = os.environ | {"CONTAINERS_CONF": str(folder / "containers.conf")}

    def __call__(self, *arguments: str, check: bool = True, **named) -> str:
        """Run podman; return what it prints, or raise with what it says."""
        command = ["podman", *arguments]
        done = subprocess.run(
            command, env=self.environment, capture_output=True, timeout=300, **named
        )
        if check and done.returncode:
            raise RuntimeError(f"{command[:4]}: {done.stderr.decode()[-2000:]}")
        return done.stdout.decode()


def import_base(podman: Podman, folder: Path) -> None:
    """Make the base image from the files of this machine."""
    archive = folder / "base.tar"
    with tarfile.open(archive, "w") as tar:
        for name, content in _base_files().items():
            if isinstance(content, Path):
                tar.add(content.resolve(), name)
            else:
                entry = tarfile.TarInfo(name)
                entry.size = len(content.encode())
                tar.addfile(entry, io.BytesIO(content.encode()))
    changes = ["ENV PATH=/opt/python/bin:/usr/bin:/bin", "ENV JAX_PLATFORMS=cpu"]
    podman("import", *(f"--change={c}" for c in changes), str(archive), BASE)
    archive.unlink()


def _base_files() -> dict[str, Path | str]:
    """List the files of the image by name: where they are here, or their text."""
    standard = Path(sysconfig.get_path("stdlib"))
    keep = lambda path: (
        not {"site-packages", "dist-packages", "__pycache__", "test"}
        & set(path.relative_to(standard).parts)
    )
    executable = Path(sys.executable).resolve()
    shell = Path("/bin/sh").resolve()
    files: dict[str, Path | str] = {f"{PYTHON}/bin/python3": executable, "bin/sh": shell}
    for path in standard.rglob("*"):
        if path.is_file() and keep(path):
            files[f"{PYTHON}/lib/{standard.name}/{path.relative_to(standard)}"] = path
    printed = subprocess.run(
        [sys.executable, "-c", LOADED], capture_output=True, text=True, check=True, cwd="/"
    )
    for origin in map(Path, printed.stdout.split()):
        # The project's own files follow below; its environment may lie in its folder.
        if origin.is_relative_to(ROOT) and not origin.is_relative_to(sys.prefix):
            continue
        if origin.is_dir():
            _add_folder(files, origin, f"{SITE}/{origin.name}")
            continue
        if origin.name != "__init__.py":
            files[f"{SITE}/{origin.name}"] = origin
            continue
        for folder in (
            origin.parent,
            *origin.parent.parent.glob(f"{origin.parent.name}.libs"),
        ):
            _add_folder(files, folder, f"{SITE}/{folder.name}")
    _add_folder(files, ROOT / "sedma_jax", f"{SITE}/sedma_jax")
    _add_folder(files, ROOT / "kernels", f"{SITE}/sedma_jax/kernels")
    for distribution in importlib.metadata.distributions():
        if not (metadata := distribution.read_text("METADATA")):
            continue
        plain = distribution.metadata["Name"].replace("-", "_")
        name = f"{plain}-{distribution.version}.dist-info"
        files[f"{SITE}/{name}/METADATA"] = metadata
        if points := distribution.read_text("entry_points.txt"):
            files[f"{SITE}/{name}/entry_points.txt"] = points
    paths = [path for path in files.values() if isinstance(path, Path)]
    binaries = [executable, shell, *(path for path in paths if ".so" in path.name)]
    linked = subprocess.run(["ldd", *binaries], capture_output=True, text=True).stdout
    inside = {path.resolve() for path in paths}
    for path in sorted({Path(p) for p in re.findall(r"(/\S+) \(0x", linked)}):
        if path.resolve() not in inside:
            files[str(path)[1:]] = path
    files["etc/passwd"] = "root:x:0:0::/:/bin/sh\n"
    # libc loads these when it resolves a name.
    for folder in {Path(p).parent for p in re.findall(r"(/\S+/libc\.so\.6) \(0x", linked)}:
        for path in [*folder.glob("libnss_*.so.2"), *folder.glob("libresolv.so.2")]:
            files[str(path)[1:]] = path
    return files


def _add_folder(files, folder, name):
    for path in folder.rglob("*"):
        if path.is_file() and "__pycache__" not in path.parts and "tests" not in path.parts:
            files[f"{name}/{path.relative_to(folder)}"] = path
