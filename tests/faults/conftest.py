from __future__ import annotations

import pytest
from faults.scenes import IMPORTS
from forked import Processes


@pytest.fixture(scope="session")
def processes():
    """Starts commands; it takes seconds to start itself."""
    with Processes(*IMPORTS) as started:
        yield started
