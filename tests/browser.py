"""Chromium for the tests that look at pages as a person does."""

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, sync_playwright

ADVICE = (
    "The browser tests need Chromium: install it (Debian, Ubuntu: apt-get install chromium), "
    "or name one with CHROMIUM_PATH=/path/to/chromium."
)
ARGUMENTS = [
    "--no-sandbox",  # root, as in most CI, cannot have one; the only pages opened are our own
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    # This list replaces Playwright's, which it therefore begins with. The rest are pages of the browser's own: one of
    # each would be loaded for every context.
    "--disable-features="
    "AvoidUnnecessaryBeforeUnloadCheckSync,DestroyProfileOnBrowserClose,HttpsUpgrades,"
    "HttpsFirstBalancedModeAutoEnable,LensOverlay,MediaRouter,PaintHolding,ThirdPartyStoragePartitioning,"
    "AvoidCorsURLLoaderRestartOnRedirect,TcpPortRandomizationWin,OptimizationHints,NetworkTimeServiceQuerying,"
    "AimEnabled,PreconnectToSearch,WebUIOmniboxPopup,WebUIOmniboxAimPopup,WebUIOmniboxFullPopup",
    "--disable-gpu",  # a processor that plays one takes half as long again for each page
    "--disable-quic",
    "--disable-sync",
]


class NoBrowser(Exception):
    """No Chromium can be found or had; the text says what to do."""


def find_chromium() -> str:
    """The path of a Chromium: the one named by CHROMIUM_PATH, the system's, Playwright's, or one it downloads."""
    named = os.environ.get("CHROMIUM_PATH")
    if named:
        if not os.access(named, os.X_OK):
            raise NoBrowser(f"CHROMIUM_PATH is {named}, and there is no program there.")
        return named
    for name in ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable"):
        found = shutil.which(name)
        if found:
            return found
    with sync_playwright() as playwright:
        own = playwright.chromium.executable_path
    if not Path(own).exists():
        download = [sys.executable, "-m", "playwright", "install", "chromium"]
        if subprocess.run(download, capture_output=True, check=False).returncode or not Path(own).exists():
            raise NoBrowser(ADVICE)
    return own


class Pages:
    """Opens pages of one site, each in a context of its own, and notes what went wrong in any of them."""

    def __init__(self, browser: Browser, url: str) -> None:
        self._browser = browser
        self._url = url
        self._contexts: list[BrowserContext] = []
        # Uncaught exceptions, console errors and refusals by the content security policy. A test that provokes
        # one on purpose takes it out again.
        self.problems: list[str] = []

    def open(self, cookies: Mapping[str, str] | None = None, **options: Any) -> Page:
        """A page in a new context; `options` are Playwright's for a context (viewport, color_scheme, …)."""
        context = self._browser.new_context(base_url=self._url, **options)
        self._contexts.append(context)
        for name, value in (cookies or {}).items():
            context.add_cookies([{"name": name, "value": value, "url": self._url}])
        context.on("weberror", lambda failure: self.problems.append(f"uncaught: {failure.error}"))
        context.on("console", self._note)
        return context.new_page()

    def close(self) -> None:
        while self._contexts:
            self._contexts.pop().close()

    def _note(self, message: ConsoleMessage) -> None:
        # Chromium reports every answer above 399 as an error; what the API refuses is for the tests to judge.
        refused_call = (
            message.text.startswith("Failed to load resource") and "/api/" in message.location["url"]
        )
        # On a machine as busy as one with tests, Valkey may seem away for a moment: the page comes again by itself.
        refused_page = "/ws/' failed" in message.text and message.text.endswith(
            "Unexpected response code: 403"
        )
        if message.type == "error" and not refused_call and not refused_page:
            self.problems.append(f"console: {message.text} ({message.location['url']})")
