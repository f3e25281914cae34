import pytest

from tests.transports.rest.service_fake import Rest


@pytest.fixture
def rest() -> Rest:
    return Rest()
