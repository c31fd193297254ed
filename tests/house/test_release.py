"""The script of releases refuses what it should, before it builds anything."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]


@pytest.fixture
def checkout(tmp_path):
    """A small repository with the script and what it reads."""
    for name in (".ci/release", "pyproject.toml", "CITATION.cff"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    # In place of the real one: says what it was asked for, and leaves what a build would.
    (tmp_path / ".ci/in-venv").write_text(
        'echo "asked: $*"\n[ "$3" != build ] || { mkdir -p "$5"; echo x >"$5/p-0.whl"; }\n'
    )
    git(tmp_path, "init", "-q")
    git(tmp_path, "add", "-A")
    git(tmp_path, "commit", "-qm", "first")
    return tmp_path


def git(folder, *arguments):
    who = ("-c", "user.name=t", "-c", "user.email=t@example.org")
    subprocess.run(["git", *who, *arguments], cwd=folder, check=True, capture_output=True)


def release(folder, *arguments):
    command = ["bash", ".ci/release", *arguments, str(folder.parent / "built")]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True)


def version():
    return re.search(r'^version = "(.*)"', (ROOT / "pyproject.toml").read_text(), re.M)[1]


def test_says_what_it_would_upload_and_uploads_nothing(checkout):
    done = release(checkout)
    assert done.returncode == 0, done.stderr
    assert "would upload p-0.whl (2 bytes)" in done.stdout
    assert f"lacks the tag v{version()}" in done.stdout
    assert "twine check --strict" in done.stderr
    assert "twine upload" not in done.stdout + done.stderr


def test_uploads_a_clean_tree_at_its_tag_alone(checkout):
    refused = release(checkout, "--upload")
    assert refused.returncode == 2 and "asked" not in refused.stderr
    git(checkout, "tag", f"v{version()}")
    done = release(checkout, "--upload")
    assert done.returncode == 0 and "twine upload --non-interactive" in done.stdout
    (checkout / "CITATION.cff").write_text("version: 9.9.9\n")
    refused = release(checkout, "--upload")
    assert refused.returncode == 2 and "needs one version" in refused.stderr


def test_citation_and_issue_templates_have_what_their_readers_need():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert {"cff-version", "message", "title", "authors"} <= set(citation)
    assert citation["cff-version"] == "1.2.0" and citation["version"] == version()
    for path in (ROOT / ".github/ISSUE_TEMPLATE").glob("*.yml"):
        form = yaml.safe_load(path.read_text())
        assert {"name", "description", "body"} <= set(form)
        assert all("label" in field["attributes"] for field in form["body"])
