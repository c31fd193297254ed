"""What the site makes from the package and from `bench/results`: nothing is typed twice.

`mkdocs.yml` names this file. `docs/api_topics.py` has the pages of the API reference.
"""

import argparse
import html
import json
import re
import shutil
import sys
from functools import cache
from pathlib import Path

import jinja2
from latex2mathml.converter import convert
from mkdocs.structure.files import File

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"

TEX = re.compile(r'<(span|div) class="arithmatex">(.*?)</\1>', re.S)


def on_startup(command, dirty):
    """Lay out the package as it is installed, for the reader of signatures."""
    sys.path[:0] = [str(DOCS), str(ROOT)]  # not at import: MkDocs restores the path
    target = ROOT / "build" / "api" / "sedma_jax"
    shutil.rmtree(target.parent, ignore_errors=True)
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "sedma_jax", target, ignore=ignored)
    shutil.copytree(ROOT / "kernels", target / "kernels", ignore=ignored)


def on_files(files, config):
    """Add the pages and pictures that are made, not written."""
    for name, content in generated().items():
        if files.get_file_from_path(name) is None:
            files.append(File.generated(config, name, content=content))
    return files


def generated() -> dict[str, str | bytes]:
    """The content of each generated file, by its path in the site."""
    import api_topics
    import device_catalogue

    found: dict[str, str | bytes] = {
        f"api/{slug}.md": text for slug, text in api_topics.pages().items()
    }
    found |= device_catalogue.files()
    for name in ("recipes", "promises", "decisions"):
        found[f"{name}.md"] = relinked((DOCS / f"{name}.md").read_text())
    found["decisions.md"] = with_headings(found["decisions.md"])
    found["command_line.md"] = command_line()
    found["assets/residual_slicing.png"] = (DOCS / "residual_slicing.png").read_bytes()
    found["assets/growth.png"] = (ROOT / "bench/results/growth.png").read_bytes()
    for path in sorted((DOCS / "tutorials" / "pages").glob("*")):
        found[f"tutorials/{path.name}"] = path.read_bytes()
    return found


def relinked(text: str) -> str:
    """Links to files of the repository become their names: the site has no such pages."""
    return re.sub(r"\[([^\]]+)\]\((?:\.\./)+[^)]*\)", r"`\1`", text)


def with_headings(text: str) -> str:
    """Each decision under a heading of its own; they start with a bold line."""
    return re.sub(r"^\*\*(.+?)\*\*$", r"### \1", text, flags=re.M)


def command_line() -> str:
    """The command line reference, from the parsers themselves."""
    from sedma_jax._cli.main import _parser

    parts = [
        "# Command line",
        "Commands end with status 0, 1 if the work failed, 2 for bad input, 130 after "
        "Ctrl-C, and 141 if whoever read the output closed it.",
    ]
    for parser, depth in parsers(_parser(), 2):
        parts.append(f"{'#' * min(depth, 4)} `{parser.prog}`")
        parser.formatter_class = _Wide
        parts.append(f"```text\n{parser.format_help().rstrip()}\n```")
    return "\n\n".join(parts) + "\n"


class _Wide(argparse.HelpFormatter):
    def __init__(self, prog, **how):
        super().__init__(prog, width=80, max_help_position=26)


def parsers(parser, depth):
    """A parser and those of its commands, each with its depth."""
    yield parser, depth
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for child in action.choices.values():
                yield from parsers(child, depth + 1)


@cache
def results(name: str):
    """A file of `bench/results`."""
    return json.loads((ROOT / "bench" / "results" / f"{name}.json").read_text())


def on_page_markdown(markdown, page, config, files):
    """Fill in figures of `bench/results` on the pages that ask for them."""
    if not page.meta.get("figures"):
        return markdown
    environment = jinja2.Environment(undefined=jinja2.StrictUndefined, autoescape=False)
    return environment.from_string(markdown).render(results=results)


def on_page_content(content, page, config, files):
    """Equations become MathML, which browsers draw without a script."""
    return TEX.sub(lambda found: mathml(found[2]), content)


def mathml(tex: str) -> str:
    """MathML of an equation between `\\(` or `\\[` and their counterparts."""
    tex = html.unescape(tex.strip())
    display = "block" if tex.startswith("\\[") else "inline"
    return convert(tex[2:-2].strip(), display=display)
