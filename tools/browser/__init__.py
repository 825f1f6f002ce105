"""A headless Chromium for tests and pictures: found or installed, and driven.

    async with Browser() as browser:
        await browser.open(url)
        await browser.run("return document.title")

Raises `ServiceUnavailable`, with the remedy, where it cannot be had.
"""

from tools.browser.driver import Browser

__all__ = ["Browser"]
