"""Make notebooks and pages from the tutorials, which are scripts in percent format.

    python docs/tutorials/render.py [NAME ...] [--notebooks DIR] [--pages DIR]

jupytext reads each script, nbclient executes it from the root of the repository, and
nbconvert writes `pages/NAME.md` with what was printed and one PNG for each figure. The
executed notebooks go to `build/notebooks`. Needs the extra `docs`, and those that a
tutorial names. A tutorial that fails, or writes to standard error, writes no page.
"""

import argparse
import io
import os
import tempfile
import time
from pathlib import Path

import jupytext
import nbclient
import nbformat
from nbconvert.exporters import MarkdownExporter
from PIL import Image
from traitlets.config import Config

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
SCRIPTS = {
    path.stem: path for path in sorted(HERE.glob("*.py")) if path != HERE / "render.py"
}
LARGEST = 60_000  # bytes of a picture


def execute(script: Path) -> nbformat.NotebookNode:
    """The notebook of a script, executed on one CPU as users have it."""
    notebook = jupytext.read(script)
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    notebook.metadata = nbformat.from_dict({"kernelspec": kernel})
    for number, cell in enumerate(notebook.cells):
        cell.id = f"{script.stem}-{number}"  # random ones would make each notebook another
    surroundings = {
        "JAX_PLATFORMS": "cpu",
        "MATPLOTLIBRC": str(HERE),
        "PYDEVD_DISABLE_FILE_VALIDATION": "1",
    }
    with tempfile.TemporaryDirectory() as folder:
        # Sockets in a folder of its own: no port, and no other kernel's socket.
        sockets = {"transport": "ipc", "ip": f"{folder}/kernel"}
        client = nbclient.NotebookClient(
            notebook,
            timeout=600,
            resources={"metadata": {"path": str(ROOT)}},
            config=Config({"KernelManager": sockets}),
        )
        client.execute(env=os.environ | surroundings)
    for cell in notebook.cells:
        for output in cell.get("outputs", ()):
            if output.get("name") == "stderr":
                raise RuntimeError(f"{script.name} wrote to stderr:\n{output.text}")
    return notebook


def page(name: str, notebook: nbformat.NotebookNode) -> tuple[str, dict[str, bytes]]:
    """The page of an executed notebook, and its pictures by file name."""
    settings = Config()
    settings.ExtractOutputPreprocessor.output_filename_template = (
        name + "_{cell_index}_{index}{extension}"
    )
    text, resources = MarkdownExporter(config=settings).from_notebook_node(notebook)
    pictures = {
        picture: _with_palette(data)
        for picture, data in sorted(resources["outputs"].items())
    }
    for picture, data in pictures.items():
        if len(data) > LARGEST:
            raise RuntimeError(f"{picture} has {len(data)} bytes, more than {LARGEST}.")
    text = text.replace("![png](", "![Figure](")
    note = f"<!-- Made from docs/tutorials/{name}.py by render.py; do not edit. -->\n\n"
    return note + text.strip() + "\n", pictures


def _with_palette(data: bytes) -> bytes:
    """The same PNG in at most 256 colours: about half the bytes."""
    small = io.BytesIO()
    picture = Image.open(io.BytesIO(data)).convert("RGB").quantize(256)
    picture.save(small, "png", optimize=True)
    return small.getvalue()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help="by default all")
    parser.add_argument("--notebooks", type=Path, default=ROOT / "build" / "notebooks")
    parser.add_argument("--pages", type=Path, default=HERE / "pages")
    options = parser.parse_args()
    if unknown := set(options.names) - set(SCRIPTS):
        parser.error(f"no tutorial {', '.join(sorted(unknown))}; know {', '.join(SCRIPTS)}")
    options.notebooks.mkdir(parents=True, exist_ok=True)
    options.pages.mkdir(parents=True, exist_ok=True)
    for name in options.names or SCRIPTS:
        started = time.perf_counter()
        notebook = execute(SCRIPTS[name])
        nbformat.write(notebook, options.notebooks / f"{name}.ipynb")
        text, pictures = page(name, notebook)
        for old in options.pages.glob(f"{name}_*_*.png"):
            old.unlink()
        (options.pages / f"{name}.md").write_text(text)
        for picture, data in pictures.items():
            (options.pages / picture).write_bytes(data)
        print(f"{name:16} {time.perf_counter() - started:6.1f} s", flush=True)


if __name__ == "__main__":
    main()
