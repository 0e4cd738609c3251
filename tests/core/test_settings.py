"""Settings: which layer wins, what a mistake says, and that a written setting is a whole one."""

from __future__ import annotations

from pathlib import Path

import pytest

from occlufix_vcam.core.errors import ConfigError
from occlufix_vcam.core.settings import Settings, config_path, load_settings, save_settings


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "settings.toml"
    monkeypatch.setenv("OCCLUFIX_CONFIG", str(path))
    return path


def test_defaults_where_nothing_is_said(file: Path) -> None:
    assert load_settings() == Settings()
    assert not file.exists()


def test_file_then_environment_then_command_line(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file.write_text('width = 640\nheight = 480\nsource = "from file"\n')
    monkeypatch.setenv("OCCLUFIX_HEIGHT", "360")
    monkeypatch.setenv("OCCLUFIX_SOURCE", "from environment")
    settings = load_settings({"source": "from command line"})
    assert (settings.width, settings.height, settings.source) == (640, 360, "from command line")


def test_the_environment_gives_lists_with_commas(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OCCLUFIX_SINKS", "auto, null")
    assert load_settings().sinks == ("auto", "null")


def test_a_typo_names_the_file_the_key_and_the_nearest_one(file: Path) -> None:
    file.write_text("widht = 640\n")
    with pytest.raises(ConfigError) as raised:
        load_settings()
    assert str(file) in raised.value.message and "`widht`" in raised.value.message
    assert "`width`" in raised.value.hint


@pytest.mark.parametrize(
    ("line", "key"),
    [
        ("width = 63", "width"),
        ("rate = 'fast'", "rate"),
        ("on_failure = 'panic'", "on_failure"),
        ("sinks = []", "sinks"),
    ],
)
def test_a_value_that_will_not_do_names_file_and_key(file: Path, line: str, key: str) -> None:
    file.write_text(line)
    with pytest.raises(ConfigError) as raised:
        load_settings()
    assert raised.value.message.startswith(f"{file}: {key} = ")


def test_a_bad_value_in_the_environment_is_called_that(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OCCLUFIX_RATE", "often")
    with pytest.raises(ConfigError, match="environment"):
        load_settings()


def test_a_file_that_is_no_toml_is_named(file: Path) -> None:
    file.write_text("width: 640")
    with pytest.raises(ConfigError, match="not valid TOML"):
        load_settings()


def test_settings_are_frozen_and_change_by_a_new_value() -> None:
    settings = Settings()
    with pytest.raises(ValueError, match="frozen"):
        settings.enabled = False  # type: ignore[misc]
    assert not settings.but(enabled=False).enabled and settings.enabled


def test_a_saved_setting_keeps_comments_and_other_settings(file: Path) -> None:
    file.write_text("# mine\nwidth = 640  # small\n")
    assert save_settings({"rate": "25"}) == config_path()
    save_settings({"sinks": "null,auto"})
    assert file.read_text().startswith("# mine\nwidth = 640  # small\n")
    settings = load_settings()
    assert (settings.width, settings.rate, settings.sinks) == (640, 25.0, ("null", "auto"))


@pytest.mark.parametrize(("key", "value"), [("rat", "25"), ("rate", "fast")])
def test_nothing_is_written_where_a_setting_will_not_do(file: Path, key: str, value: str) -> None:
    file.write_text("width = 640\n")
    with pytest.raises(ConfigError):
        save_settings({key: value})
    assert file.read_text() == "width = 640\n"
    assert [path.name for path in file.parent.iterdir()] == [file.name]
