"""The whole daemon ended, killed, unplugged, put to sleep: a few rounds of what `scripts/endurance.py` does.

Needs Debian's packages (see `.ci/run`); what is missing is named in the reason why a test was skipped.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from scripts import endurance
from scripts.harness.endurance.ends import end_again_and_again
from scripts.harness.endurance.pauses import begin_session_again_and_again, sleep_again_and_again
from scripts.harness.endurance.replugs import Plug, replug_again_and_again
from scripts.harness.endurance.scene import RATE, Scene
from scripts.harness.endurance.tally import Tally
from scripts.harness.readers import film, session

ASLEEP_S = 4.0  # longer than a camera may be silent

pytestmark = pytest.mark.skipif(
    (session.missing() or film.missing()) != "",
    reason=f"NOT PROVED HERE: no endurance without {session.missing() or film.missing()}",
)


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    folder = tmp_path_factory.mktemp("session")
    with session.programs(folder) as running:
        yield Scene(running, folder, pictures=round(2.5 * ASLEEP_S * RATE))


def is_good(tally: Tally, rounds: int) -> bool:
    assert tally.is_good, tally.told()
    return tally.rounds == rounds


def test_killed_it_starts_again_and_leaves_nothing(scene: Scene) -> None:
    assert is_good(end_again_and_again(scene, 2, kill=True), 2)


def test_however_the_camera_goes_it_comes_back_for_the_same_reader(scene: Scene) -> None:
    rounds = len(Plug.WAYS)
    assert is_good(replug_again_and_again(scene, rounds), rounds)


def test_after_a_sleep_it_goes_on_by_itself(scene: Scene) -> None:
    assert is_good(sleep_again_and_again(scene, 2, ASLEEP_S), 2)


def test_it_comes_back_where_pipewire_or_its_manager_restarts(scene: Scene) -> None:
    assert is_good(begin_session_again_and_again(scene, 2), 2)


def test_stopped_it_starts_again_and_leaves_nothing_and_the_command_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    none = [f"--{kind}=0" for kind in ("kills", "replugs", "sleeps", "sessions")]
    assert endurance.main(["--restarts=2", *none]) == 0
    told = json.loads(capsys.readouterr().out)
    assert list(told) == ["restarts"] and told["restarts"]["rounds"] == 2 and told["restarts"]["left"] == []


def test_a_round_that_fails_is_told_and_what_is_left_too() -> None:
    tally = Tally(before={"nodes": 1})
    with tally.round():
        raise TimeoutError("no picture")
    tally.after = {"nodes": 2}
    assert not tally.is_good and tally.left == ["nodes"]
    assert tally.told()["failed"] == ["round 1: TimeoutError('no picture')"]
