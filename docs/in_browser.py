"""Look at every page of the built site in a headless browser.

    python docs/in_browser.py [--shots FOLDER]

Needs `pip install playwright` and a Chromium (`CHROMIUM=PATH`, default `chromium`). Fails
on an error in the console, a request that fails or leaves the site, a picture without size,
and a page that is wider than its window at 400 or 1,400 pixels.
"""

import argparse
import functools
import os
import shutil
import sys
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

SITE = Path(__file__).parents[1] / "build" / "site"
WIDTHS = (400, 1400)
SHOTS = ("index", "concepts/corrections", "api/programming", "devices", "questions")


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


def main() -> int:
    """Check all pages; the exit status is 1 if anything was found."""
    from playwright.sync_api import sync_playwright

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shots", type=Path, metavar="FOLDER", help="keep five pictures")
    shots = parser.parse_args().shots
    handler = functools.partial(_Quiet, directory=SITE)
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    origin = f"http://127.0.0.1:{server.server_port}/"
    pages = sorted(SITE.rglob("*.html"))
    chromium = os.environ.get("CHROMIUM") or shutil.which("chromium")
    found = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=chromium, args=["--no-sandbox"]
        )
        for width in WIDTHS:
            page = browser.new_page(viewport={"width": width, "height": 900})
            faults = _listen(page, origin)
            for path in pages:
                name = path.relative_to(SITE).as_posix()
                page.goto(origin + name, wait_until="load")
                faults += _measure(page, width)
                found += [f"{name} at {width}: {fault}" for fault in faults]
                faults.clear()
                if shots and name.removesuffix(".html") in SHOTS:
                    shot = f"{name.removesuffix('.html').replace('/', '-')}-{width}.png"
                    page.screenshot(path=shots / shot)
        browser.close()
    server.shutdown()
    print(*found, f"{len(pages)} pages, {len(found)} faults", sep="\n")
    return bool(found)


def _listen(page, origin) -> list[str]:
    faults: list[str] = []

    def on_console(message):
        if message.type == "error":
            faults.append(f"console: {message.text}")

    def on_request(request):
        if not request.url.startswith((origin, "data:", "blob:")):
            faults.append(f"fetches {request.url}")

    def on_failed(request):
        if request.failure != "net::ERR_ABORTED":  # the next page was opened
            faults.append(f"failed: {request.url}")

    page.on("console", on_console)
    page.on("pageerror", lambda error: faults.append(f"error: {error}"))
    page.on("request", on_request)
    page.on("requestfailed", on_failed)
    return faults


def _measure(page, width) -> list[str]:
    wide = page.evaluate("document.documentElement.scrollWidth")
    empty = page.evaluate(
        "[...document.images].filter(i => i.loading != 'lazy' && !i.naturalWidth)"
        ".map(i => i.src)"
    )
    faults = [f"picture {source} has no size" for source in empty]
    return faults + [f"is {wide} px wide"] * (wide > width)


if __name__ == "__main__":
    sys.exit(main())
