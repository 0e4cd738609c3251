"""What the tests of the daemon share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from occlufix_vcam.runtime import demand as demand_module
from occlufix_vcam.runtime import output as output_module
from occlufix_vcam.runtime import supervisor as supervisor_module
from tests.harness.daemon import Stage
from tests.harness.fakes import ReadSink, running


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor_module, "FIRST_PAUSE_S", 0.0)


@pytest.fixture
def stage() -> Iterator[Stage]:
    stage = Stage()
    with running(stage.daemon) as raised:
        yield stage
    assert raised == []


@pytest.fixture
def read_stage(monkeypatch: pytest.MonkeyPatch) -> Iterator[Stage]:
    """A daemon whose sink reports its readers: none at first."""
    monkeypatch.setattr(demand_module, "LINGER_S", 0.2)
    monkeypatch.setattr(output_module, "IDLE_S", 0.01)
    monkeypatch.setattr(output_module, "LOOK_S", 0.001)
    stage = Stage()
    stage.sink = stage.sinks[0] = ReadSink()
    with running(stage.daemon) as raised:
        stage.sink.wait_for(lambda _: stage.daemon.state == "idle")
        yield stage
    assert raised == []
