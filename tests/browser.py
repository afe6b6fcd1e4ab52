"""Pages in a real headless Chromium: what a script finds in them, and their screenshot."""

import io
import json
import os
import re
import shutil
import subprocess
from html import unescape
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="needs chromium or google-chrome on the path")

# benchopt's page loads these from CDNs; a test reads them from a folder, so that it needs no network
CDN = {
    "https://cdn.plot.ly/plotly-2.12.1.min.js": "plotly.js-dist-min/plotly.min.js",
    "https://cdn.jsdelivr.net/npm/gridjs@6.2.0/dist/gridjs.umd.js": "gridjs/dist/gridjs.umd.js",
    "https://cdn.jsdelivr.net/npm/gridjs@6.2.0/dist/theme/mermaid.min.css": "gridjs/dist/theme/mermaid.min.css",
    "https://cdnjs.cloudflare.com/ajax/libs/animejs/2.0.2/anime.min.js": "animejs/anime.min.js",
}
NPM = "npm install --prefix FOLDER plotly.js-dist-min@2.12.1 gridjs@6.2.0 animejs@2.0.2"
PAGE_SCRIPTS = os.environ.get("PAGE_SCRIPTS")
needs_page_scripts = pytest.mark.skipif(
    not PAGE_SCRIPTS, reason=f"needs the scripts of benchopt's page: {NPM}, PAGE_SCRIPTS=FOLDER/node_modules"
)


SIZE = (1500, 2400)


def _run(page, folder, *flags):
    command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"]
    command += ["--allow-file-access-from-files", "--hide-scrollbars", "--virtual-time-budget=2000"]
    command += [f"--window-size={SIZE[0]},{SIZE[1]}"]
    command += [f"--user-data-dir={folder / 'profile'}", *flags, f"file://{page}"]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=True).stdout


def with_local_scripts(text):
    """benchopt's page with the scripts of ``PAGE_SCRIPTS`` instead of those of the CDNs."""
    for address, path in CDN.items():
        assert address in text
        text = text.replace(address, f"file://{Path(PAGE_SCRIPTS).resolve() / path}")
    return text.replace("https://fonts.googleapis.com", "file:///nowhere")


def probe(text, script, folder):
    """The value of the last expression of a script that runs when the page has loaded, through JSON."""
    page = folder / "probed.html"
    end = (
        "<script>window.addEventListener('load', () => setTimeout(() => {"
        f"const found = document.createElement('pre'); found.id = 'found'; const value = (() => {{{script}}})();"
        "found.textContent = JSON.stringify(value); document.body.append(found);}, 500));</script></body>"
    )
    page.write_text(text.replace("</body>", end), encoding="utf-8")
    dom = _run(page, folder, "--dump-dom")
    return json.loads(unescape(re.search(r'<pre id="found">(.*?)</pre>', dom, re.S)[1]))


def screenshot(text, folder):
    """The page as pixels (height, width, 3)."""
    page, picture = folder / "shown.html", folder / "shot.png"
    page.write_text(text, encoding="utf-8")
    _run(page, folder, f"--screenshot={picture}")
    return np.asarray(Image.open(io.BytesIO(picture.read_bytes())).convert("RGB"))
