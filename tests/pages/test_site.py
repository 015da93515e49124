"""The site builds strictly, loads nothing from elsewhere, and no page scrolls sideways on a phone."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from tests import browsers
from tests.pages.blocks import ROOT

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

PHONE_PIXELS = 390


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(out)],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return out


def test_every_page_is_built(site: Path) -> None:
    sources = {path.relative_to(ROOT / "docs").with_suffix(".html") for path in (ROOT / "docs").rglob("*.md")}
    assert sources - {path.relative_to(site) for path in site.rglob("*.html")} == set()


def test_a_reader_loads_nothing_from_elsewhere(site: Path) -> None:
    for page in site.rglob("*.html"):
        text = page.read_text()
        loaded = re.findall(r'<(?:script|img|iframe)[^>]* src="(https?:[^"]*)"', text)
        loaded += re.findall(r'<link[^>]* rel="stylesheet"[^>]* href="(https?:[^"]*)"', text)
        assert loaded == [], page.relative_to(site)


def test_every_picture_says_what_it_shows(site: Path) -> None:
    for page in site.rglob("*.html"):
        for picture in re.findall(r"<img [^>]*>", page.read_text()):
            found = re.search(r'alt="([^"]*)"', picture)
            assert found is not None
            assert len(found[1]) > 20, picture


def test_no_page_scrolls_sideways_on_a_phone(site: Path, tmp_path: Path) -> None:
    pages = [page for page in sorted(site.rglob("*.html")) if page.name != "404.html"]
    assert len(pages) > 30
    with browsers.open_one(tmp_path / "profile") as browser:
        browser.call(
            "Emulation.setDeviceMetricsOverride",
            width=PHONE_PIXELS,
            height=844,
            deviceScaleFactor=2,
            mobile=True,
        )
        wide = {}
        for page in pages:
            browser.open(page.as_uri())
            until = "document.readyState == 'complete' && document.body.scrollHeight > 0"
            for _ in range(200):
                if browser.evaluate(f"location.href == {page.as_uri()!r} && {until}"):
                    break
                time.sleep(0.05)
            width = browser.evaluate(
                "Math.max(document.documentElement.scrollWidth, document.body.scrollWidth)"
            )
            if width is None or width > PHONE_PIXELS:
                wide[str(page.relative_to(site))] = width
    assert wide == {}
