"""A REST application and a gRPC server, each over a fake service."""

import asyncio
import threading
from collections.abc import Iterator

import pytest

from tests.transports.grpc.server_fake import Grpc
from tests.transports.rest.service_fake import Rest


@pytest.fixture
def rest() -> Rest:
    return Rest()


@pytest.fixture(scope="session")
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    """One for all: gRPC's poller belongs to a loop."""
    made = asyncio.new_event_loop()
    thread = threading.Thread(target=made.run_forever)
    thread.start()
    yield made
    made.call_soon_threadsafe(made.stop)
    thread.join()
    made.close()


@pytest.fixture
def server(loop: asyncio.AbstractEventLoop) -> Iterator[Grpc]:
    made = Grpc(loop)
    yield made
    made.close()
