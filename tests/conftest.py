import os
from pathlib import Path

import jax
import pytest
from hypothesis import settings

jax.config.update("jax_enable_x64", True)
jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")

settings.register_profile("fixed", derandomize=True, deadline=None)
settings.load_profile("fixed")


# Half the time of the tests: programs that compile quickly and run slowly.
QUICK_TO_COMPILE = (
    "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true "
    "--xla_cpu_use_fusion_emitters=false"
)


def pytest_configure(config):
    """Compile quickly, and keep compiled programs from test to test and from run to run.

    Here and in the commands under test, which leave the cache of whoever runs the tests
    alone. Each worker has a folder, since JAX may read what another is still writing.
    `-m slow` compiles as users do: tests whose promise is about bits are among the slow.
    """
    if config.option.markexpr != "slow":
        os.environ.setdefault("XLA_FLAGS", QUICK_TO_COMPILE)  # before the first program
    worker = os.environ.get("PYTEST_XDIST_WORKER", "main")
    folder = str(config.cache.mkdir("compiled") / worker)
    os.environ["SEDMA_COMPILATION_CACHE"] = folder
    jax.config.update("jax_compilation_cache_dir", folder)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)


@pytest.fixture(scope="module", autouse=True)
def few_compiled_programs():
    """Forget compiled programs before Linux runs out of mappings, which is a crash.

    A program takes tens to hundreds of them, and a process may have 65530
    (`vm.max_map_count`).
    """
    yield
    maps = Path("/proc/self/maps")
    if maps.exists() and maps.read_bytes().count(b"\n") > 20_000:
        jax.clear_caches()


@pytest.fixture
def save(tmp_path):
    def write(name, content):
        path = tmp_path / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return write


@pytest.fixture
def plane():
    """A cluster of two nodes, as `control_plane.TOUR` wants it."""
    from control_plane import DoublePlane  # needs an extra

    plane = DoublePlane()
    for name in ("n0", "n1"):
        plane.add_node(name, 3, "3G")
    yield plane
    plane.close()
