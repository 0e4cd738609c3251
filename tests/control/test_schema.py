"""What docs/openapi.json says holds for any request: no fault of our own, nothing undocumented, nothing for strangers.

OCCLUFIX_SCHEMA_REQUESTS asks for more than the few of a usual run.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from occlufix_vcam.core.frame import Frame
from occlufix_vcam.core.settings import Settings
from occlufix_vcam.runtime.daemon import Daemon, Parts
from occlufix_vcam.sinks.fan_out import Sinks
from scripts.openapi import TARGET, description
from tests.harness.control import Served, serving
from tests.harness.fakes import InvertingPipeline, ScriptedCamera, WatchedSink, running

schemathesis = pytest.importorskip("schemathesis", reason="schemathesis is missing: pip install -e .[dev]")
hypothesis = pytest.importorskip("hypothesis")

REQUESTS = int(os.environ.get("OCCLUFIX_SCHEMA_REQUESTS", "120"))
ENDLESS = ("/v1/preview", "/v1/events")
SCHEMA = schemathesis.openapi.from_dict(json.loads(description()))
ANSWERED = [result.ok() for result in SCHEMA.get_all_operations() if result.ok().path not in (*ENDLESS, "/v1/stop")]
MODES = (schemathesis.GenerationMode.POSITIVE, schemathesis.GenerationMode.NEGATIVE)
CASES = hypothesis.strategies.one_of(
    [operation.as_strategy(generation_mode=mode) for operation in ANSWERED for mode in MODES]
)
#: What is well formed may still name a camera that there is not, or a link that was never made.
LEFT_TO_OTHERS = ["positive_data_acceptance"]
#: Settings take text that means a number, too, as the command line gives it.
LENIENT = [*LEFT_TO_OTHERS, "negative_data_rejection"]
any_number_of = hypothesis.settings(
    max_examples=REQUESTS, deadline=None, database=None, suppress_health_check=list(hypothesis.HealthCheck)
)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A daemon that runs, with devices that take whatever is asked of them."""
    folder = tmp_path_factory.mktemp("schema")
    parts = Parts(
        lambda settings: ScriptedCamera(),
        lambda settings, size, rate, kept: Sinks([WatchedSink()]),
        lambda settings, telemetry, engines: InvertingPipeline(),  # type: ignore[arg-type, return-value]
        lambda settings: "scripted camera",
    )
    daemon = Daemon(Settings(), parts)
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("OCCLUFIX_CONFIG", str(folder / "settings.toml"))
        patched.setenv("XDG_DATA_HOME", str(folder / "data"))
        patched.setattr("occlufix_vcam.control.builds.build_engines", lambda *_, **__: iter(()))
        patched.setattr("occlufix_vcam.control.guard.REFUSED_A_SECOND", 10_000.0)
        patched.setattr("occlufix_vcam.control.connection.REQUESTS_A_SECOND", 10_000.0)
        patched.setattr("occlufix_vcam.runtime.recording.SHOW_FOLDER", ("true",))
        patched.setattr(daemon.recording, "_folder", lambda: folder / "videos")
        with running(daemon) as raised, serving(daemon, folder / "state") as served:
            daemon.broadcast.show(Frame(np.zeros((48, 64, 3), np.uint8), 0, 0.0))
            yield served
    assert raised == []


def test_the_description_in_docs_is_that_of_the_code() -> None:
    assert TARGET.read_text(encoding="utf-8") == description(), "run: python -m scripts.openapi"


@any_number_of
@hypothesis.given(case=CASES)
def test_whatever_is_asked_gets_a_documented_answer(served: Served, case: Any) -> None:
    response = case.call(base_url=served.address.url, headers=bearer(served))
    assert response.status_code < 500
    left_out = LENIENT if case.operation.path == "/v1/settings" else LEFT_TO_OTHERS
    case.validate_response(response, excluded_checks=schemathesis.checks.CHECKS.get_by_names(left_out))


@any_number_of
@hypothesis.given(case=CASES)
def test_without_the_token_nothing_is_shown_or_changed(served: Served, case: Any) -> None:
    before = served.daemon.settings
    response = case.call(base_url=served.address.url)
    if case.operation.path in ("/open", "/resume"):
        challenged = case.operation.method == "get" and response.status_code == 200
        assert challenged or response.status_code in (400, 401, 413, 422)
        assert "set-cookie" not in response.headers and "session" not in response.text
    else:
        assert response.status_code == 401
    assert response.headers["content-type"] == ["application/json"]
    assert served.daemon.settings is before


def bearer(served: Served) -> dict[str, str]:
    return {"Authorization": f"Bearer {served.address.token}"}
