"""What hinders the start is told in words; the rest of the start is tested on the real process."""

import sys

import pytest

from service import serving
from service.listening import ServingError
from service.settings import Settings


def test_tracing_without_its_extra_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.resources", None)
    with pytest.raises(ServingError, match=r"pip install 'paliserve\[tracing\]'"):
        serving._tracing(Settings(tracing=True))
