"""Programs of the system's that tests need: found, or a clear word on why not."""

from pathlib import Path

import pytest

from tools.services.errors import ServiceUnavailable
from tools.services.packages import NO_INSTALL, programs


def test_programs_are_found_on_the_path() -> None:
    (found,) = programs("sh", packages=["dash"])
    assert Path(found).name == "sh"


def test_what_is_missing_and_may_not_be_installed_is_an_error_with_the_remedy(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(NO_INSTALL, "1")
    monkeypatch.setenv("PATH", "/nowhere")
    remedy = "apt-get install chromium chromium-driver` yourself, or put chromium and chromedriver"
    with pytest.raises(ServiceUnavailable, match=remedy):
        programs("chromium", "chromedriver", packages=["chromium", "chromium-driver"])
