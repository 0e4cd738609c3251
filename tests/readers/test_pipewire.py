"""The camera in PipeWire with programs that nobody here wrote: browsers list it, and numbered pictures arrive.

Needs Debian's packages (see `.ci/run`); what is missing is named in the reason why a test was skipped.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from occlufix_vcam.v4l2 import OWN_LABEL
from tests.readers import browsers, numbered, product, session

PICTURES = 120

pytestmark = pytest.mark.skipif(
    session.missing() != "", reason=f"NOT PROVED HERE: no PipeWire session without {session.missing()}"
)


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("clip") / "numbered.mp4"
    product.make_clip(path, PICTURES)
    return path


@pytest.fixture
def environment(tmp_path: Path) -> Iterator[dict[str, str]]:
    with session.pipewire_session(tmp_path) as environment:
        yield environment


@pytest.mark.parametrize("browser", browsers.PROGRAMS)
def test_a_browser_lists_it_and_shows_what_the_networks_made(
    browser: str, environment: dict[str, str], clip: Path, tmp_path: Path
) -> None:
    if browsers.program(browser) is None:
        pytest.skip(f"NOT PROVED HERE: no {browsers.DEBIAN_PACKAGES[browser]}")
    with product.started(environment, f"--source={clip}", "--sink=pipewire"):
        told = browsers.watch(browser, environment, tmp_path, label=OWN_LABEL)
        status = product.status(environment)
    assert "error" not in told, told
    assert told["cameras"] == [OWN_LABEL] and told["label"] == OWN_LABEL and told["size"] == [1280, 720]
    assert len(told["numbers"]) == 12
    assert min(numbered.steps(told["numbers"], PICTURES)) >= 0
    for name, seen in zip(numbered.COLOURS_RGB, told["colours"], strict=True):
        wanted = numbered.COLOURS_RGB[name]
        assert max(abs(a - b) for a, b in zip(seen, wanted, strict=True)) <= 12, (name, seen, wanted)
    assert status["restored"] > 0 and status["failed"] == 0
