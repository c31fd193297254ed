import os
import subprocess
import sys

import jax
import jax.random as jr
import numpy as np
import pytest

import sedma_jax as sj
from sedma_jax import _compilation_cache
from sedma_jax._cli.main import _parser
from sedma_jax._compilation_cache import cache_of_commands
from sedma_jax._products import correction
from sedma_jax._programming import program as _program

CACHED = """
import sys, numpy as np, jax.random as jr, sedma_jax as sj
print(sj.enable_compilation_cache(sys.argv[1]))
A = np.ones((3, 3), "f4")
sj.program(A, sj.devices.EPIRAM, array=(4, 4), key=jr.key(0))
"""


def test_matrices_of_many_sizes_share_a_few_compilations():
    before = _program._write_tiles.wide._cache_size()
    for m in range(1, 40, 4):  # 1 to 13 tiles
        A = np.ones((m, 3), np.float32)
        sj.program(A, sj.devices.EPIRAM, array=(3, 3), key=jr.key(0))
    assert _program._write_tiles.wide._cache_size() - before <= 3  # loops of 1 and 8 tiles


def test_corrected_products_of_many_shapes_share_their_last_step():
    def product(m, n):
        A, x = np.ones((m, n), np.float32), np.ones(n, np.float32)
        sj.corrected_matvec(
            A, x, sj.devices.EPIRAM, array=(8, 8), scheme=sj.open_loop, key=jr.key(0)
        )

    product(40, 3)
    before = correction._smooth._cache_size()
    for m, n in ((33, 5), (50, 9), (64, 2)):  # all below 64 outputs
        product(m, n)
    assert correction._smooth._cache_size() == before


def test_compiled_programs_are_kept_in_the_folder(tmp_path, monkeypatch):
    folder = tmp_path / "new" / "cache"
    command = [sys.executable, "-c", CACHED, str(folder)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    assert done.stdout.strip() == str(folder)
    kept = {path.name for path in folder.iterdir() if path.name.endswith("-cache")}
    assert any("_write_tiles" in name for name in kept)
    # The second process finds them, and adds nothing.
    subprocess.run(command, check=True, capture_output=True)
    assert {p.name for p in folder.iterdir() if p.name.endswith("-cache")} == kept


_SETTINGS = (
    "jax_compilation_cache_dir",
    "jax_enable_compilation_cache",
    "jax_persistent_cache_min_compile_time_secs",
)


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A cache folder of the user's, and settings that are put back."""
    before = {name: getattr(jax.config, name) for name in _SETTINGS}
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("SEDMA_COMPILATION_CACHE")
    jax.config.update("jax_compilation_cache_dir", None)  # the tests have one
    yield tmp_path / "sedma-jax"
    for name, value in before.items():
        jax.config.update(name, value)


def test_commands_keep_programs_in_a_folder_of_their_user(home):
    assert cache_of_commands(None) == home
    assert jax.config.jax_compilation_cache_dir == str(home)
    assert home.stat().st_mode & 0o777 == 0o700


def test_what_was_named_goes_before_the_default(home, tmp_path, monkeypatch):
    jax.config.update("jax_compilation_cache_dir", str(tmp_path / "jax"))
    assert cache_of_commands(None) == tmp_path / "jax"
    monkeypatch.setenv("SEDMA_COMPILATION_CACHE", str(tmp_path / "variable"))
    assert cache_of_commands(None) == tmp_path / "variable"
    assert cache_of_commands(str(tmp_path / "option")) == tmp_path / "option"
    assert not home.exists()


@pytest.mark.parametrize("variable", [None, "off"])
def test_the_cache_can_be_switched_off(variable, home, tmp_path, monkeypatch):
    jax.config.update("jax_compilation_cache_dir", str(tmp_path))
    if variable:
        monkeypatch.setenv("SEDMA_COMPILATION_CACHE", variable)
    assert cache_of_commands(None, wanted=variable is not None) is None
    assert not jax.config.jax_enable_compilation_cache and not home.exists()


@pytest.mark.parametrize("mode", [0o777, 0o770, 0o500])
def test_a_folder_that_others_or_nobody_can_write_is_left_alone(mode, home):
    if mode == 0o500 and os.geteuid() == 0:
        pytest.skip("root can write anywhere")
    home.mkdir()
    home.chmod(mode)
    assert cache_of_commands(None) is None
    assert jax.config.jax_compilation_cache_dir is None


def test_no_folder_can_be_made(home, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert cache_of_commands(None) is None
    # Whoever names a folder is told.
    with pytest.raises(OSError, match="file"):
        cache_of_commands(str(tmp_path / "file" / "cache"))


def test_the_oldest_programs_go_first(home, monkeypatch):
    monkeypatch.setattr(_compilation_cache, "_MOST_BYTES", 100)
    home.mkdir(mode=0o700)
    for age in range(5):
        (home / str(age)).write_bytes(bytes(25))
        os.utime(home / str(age), (1000 - age, 1000 - age))
    cache_of_commands(None)
    assert {path.name for path in home.iterdir()} == {"0", "1"}


def test_every_command_takes_the_options():
    for words in (["deploy", "plan", "file"], ["devices"], ["run", "matrix"]):
        options = _parser().parse_args([*words, "--compilation-cache", "folder"])
        assert options.compilation_cache == "folder"
        assert _parser().parse_args(["--no-compilation-cache", *words]).no_compilation_cache
        assert not hasattr(_parser().parse_args(words), "compilation_cache")


@pytest.mark.slow
def test_a_command_starts_from_kept_programs_and_computes_the_same(tmp_path):
    np.save(tmp_path / "A.npy", np.eye(3))
    command = [sys.executable, "-m", "sedma_jax._cli", "run", "A.npy", "--array", "4x4"]
    environment = os.environ | {"XDG_CACHE_HOME": str(tmp_path)}
    del environment["SEDMA_COMPILATION_CACHE"]
    cache, outputs, kept = tmp_path / "sedma-jax", [], []
    for options in (("--no-compilation-cache",), (), ()):
        whole = [*command, *options, "--out", "out"]
        subprocess.run(whole, check=True, cwd=tmp_path, env=environment)
        outputs.append((tmp_path / "out/y.npy").read_bytes())
        names = [p.name for p in cache.iterdir()] if cache.exists() else []
        kept.append({name for name in names if name.endswith("-cache")})
    assert not kept[0] and kept[1] and kept[2] == kept[1]
    assert len(set(outputs)) == 1


def test_importing_the_library_switches_no_cache_on():
    program = (
        "import jax, sedma_jax; sedma_jax.program\n"
        "print(jax.config.jax_compilation_cache_dir)"
    )
    environment = {k: v for k, v in os.environ.items() if not k.startswith("JAX_")}
    environment.pop("SEDMA_COMPILATION_CACHE")
    done = subprocess.run(
        [sys.executable, "-c", program],
        check=True,
        capture_output=True,
        text=True,
        env=environment,
    )
    assert done.stdout.strip() == "None"
