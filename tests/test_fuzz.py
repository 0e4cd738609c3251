"""Thousands of broken inputs from a fixed seed: each is read, or refused in one line with a hint."""

from __future__ import annotations

import json
import random
import socket
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import cv2
import numpy as np
import pytest

from occlufix_vcam.cli.app import app
from occlufix_vcam.core.errors import ConfigError, OccluFixError
from occlufix_vcam.core.frame import Frame
from occlufix_vcam.core.settings import Settings, from_text, load_settings, save_settings
from occlufix_vcam.core.state import StateFolder
from occlufix_vcam.offline.process import StageOverrides, process
from occlufix_vcam.sinks.recorder import Recorder

SEED = 20261129
SETTINGS, STATES, MEDIA = 10_000, 1_000, 1_000
NASTY = (
    *("0", "-1", "1e400", "nan", "inf", "true", '""', '"\\u0000"', '"🎥"', "[]", "{}", "[[[]]]", "1979-05-27", "0x1F"),
    *("9" * 5000, "[" * 2000 + "]" * 2000, f'"{"a" * 70_000}"', '"../../etc/passwd"', "'\\\\?\\C:\\con'", "[1, 'a']"),
)
VALID = 'source = "demo"\nsinks = ["null"]\nwidth = 640\nrate = 25.0\nmirror = true\nrecord = "film.mp4"\n'


def mutated(data: bytes, chance: random.Random) -> bytes:
    """`data` with one to four bytes, pieces or copies of pieces changed."""
    told = bytearray(data)
    for _ in range(chance.randint(1, 4)):
        at = chance.randrange(len(told) + 1)
        piece = bytes(told[at : at + chance.randint(1, 40)])
        told[at : at + chance.choice((0, 1, len(piece)))] = chance.choice(
            (b"", piece * 3, chance.randbytes(chance.randint(1, 8)), bytes([chance.randrange(256)]))
        )
    return bytes(told)


def refused_well(error: OccluFixError) -> bool:
    return not error.message.startswith("unexpected") and "\n" not in error.message and bool(error.hint)


def test_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    chance, file, read = random.Random(SEED), tmp_path / "settings.toml", 0
    monkeypatch.setenv("OCCLUFIX_CONFIG", str(file))
    keys = list(Settings.model_fields)
    for _ in range(SETTINGS):
        line = f"{chance.choice(keys)} = {chance.choice(NASTY)}\n".encode()
        file.write_bytes(chance.choice((mutated(VALID.encode(), chance), line, mutated(line, chance))))
        try:
            load_settings()
            read += 1
        except ConfigError as error:
            assert refused_well(error), file.read_bytes()
    assert 0 < read < SETTINGS


def test_settings_of_the_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    chance = random.Random(SEED)
    monkeypatch.setenv("OCCLUFIX_CONFIG", str(tmp_path / "settings.toml"))
    for key in [*Settings.model_fields, "nothing"]:
        for text in (*NASTY, "", "null", "a\0b", "\ud800", mutated(b"demo", chance).decode("latin-1")):
            try:
                save_settings({key: from_text(key, text)})
            except ConfigError as error:
                assert refused_well(error), (key, text)
            load_settings()  # what was saved can be read


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[StateFolder]:
    """A state folder as a daemon leaves it that runs on a port where nobody answers as a daemon does."""
    monkeypatch.setenv("OCCLUFIX_STATE_DIR", str(tmp_path / "state"))
    folder = StateFolder()
    with closing(socket.socket()) as taken, folder.hold():
        taken.bind(("127.0.0.1", 0))  # and nothing listens there
        folder.publish(taken.getsockname()[1])
        yield folder


def harms(chance: random.Random) -> list[Callable[[Path], object]]:
    """Ways to damage one file."""
    return [
        lambda file: file.write_bytes(mutated(file.read_bytes(), chance)),
        lambda file: file.write_bytes(b"[" * 100_000),
        lambda file: file.write_bytes(b""),
        lambda file: file.write_text(json.dumps({"port": chance.choice((0, -1, 10**9, "x", None)), "token": 1})),
        lambda file: (file.unlink(), file.mkdir()),
    ]


def test_state_folders(state: StateFolder, capsys: pytest.CaptureFixture[str]) -> None:
    chance = random.Random(SEED)
    files = {name: (state.path / name).read_bytes() for name in ("control.json", "last-port")}
    files["page-keys.json"] = b'{"page": ["key", 1e12]}'
    ways = harms(chance)
    for _ in range(STATES):
        name = chance.choice(sorted(files))
        file = state.path / name
        for other, content in files.items():
            if (state.path / other).is_dir():
                (state.path / other).rmdir()
            (state.path / other).write_bytes(content)
        chance.choice(ways)(file)
        state.last_port()
        state.read_page_keys()
        with pytest.raises(OccluFixError) as told:
            app([chance.choice(("status", "toggle", "stop"))], standalone_mode=False)
        assert refused_well(told.value), told.value.message
    capsys.readouterr()


@pytest.fixture(scope="module")
def media(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """Small files of every kind that `process` reads, by suffix."""
    folder = tmp_path_factory.mktemp("media")
    picture = np.random.default_rng(SEED).integers(0, 256, (48, 64, 3), dtype=np.uint8)
    for suffix in (".png", ".jpg", ".webp", ".tiff", ".bmp"):
        cv2.imwrite(str(folder / f"picture{suffix}"), picture)
    for suffix in (".mp4", ".mkv"):
        with closing(Recorder(str(folder / f"film{suffix}"), size=(64, 48), rate=10.0)) as recorder:
            for number in range(6):
                recorder.send(Frame(np.roll(picture, number, axis=1), number, number / 10))
    return {file.suffix: file.read_bytes() for file in folder.iterdir()}


def test_media(media: dict[str, bytes], tmp_path: Path) -> None:
    """Broken files of one folder: what can be read is written, the others are named with a reason."""
    chance, source = random.Random(SEED), tmp_path / "in"
    source.mkdir()
    for number in range(MEDIA):
        suffix = chance.choice(sorted(media))
        whole = media[suffix]
        data = chance.choice((mutated(whole, chance), whole[: chance.randrange(len(whole))], chance.randbytes(500)))
        (source / f"{number}{suffix}").write_bytes(data)
    told = process(source, tmp_path / "out", StageOverrides(), Settings(backend="fake"), lambda *_: None)
    assert len(told.files) + told.skipped == MEDIA
    failed = [one for one in told.files if one.error]
    assert 0 < len(failed) < len(told.files)
    assert not [one for one in failed if "unexpected" in one.error or "\n" in one.error]
    assert all((tmp_path / "out" / Path(one.out).name).stat().st_size > 0 for one in told.files if one.out)
