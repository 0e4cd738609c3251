"""Settings: which layer wins, what a mistake says, and that a written setting is a whole one."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from occlufix_vcam.core.errors import ConfigError, DeviceError
from occlufix_vcam.core.settings import (
    PRESETS,
    Reopens,
    Settings,
    config_path,
    from_text,
    load_settings,
    reopened_by,
    save_settings,
)


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


def test_a_byte_order_mark_is_read_over(file: Path) -> None:
    file.write_bytes(b"\xef\xbb\xbfwidth = 640\n")
    assert load_settings().width == 640
    save_settings({"rate": 25})
    assert (load_settings().width, load_settings().rate) == (640, 25)


@pytest.mark.parametrize(
    ("text", "key"),
    [
        (f"width = {'9' * 5000}\n", "width"),
        (f"sinks = {'[' * 5000}{']' * 5000}\n", "sinks"),
        ('source = "a\\u0000b"\n', "source"),
        ('record = "a\\u0000b"\n', "record"),
        ("rate = nan\n", "rate"),
        ("rate = inf\n", "rate"),
        (f"source = [{'1,' * 5000}]\n", "source"),
    ],
)
def test_a_monstrous_value_is_an_error_of_one_line_with_its_key(file: Path, text: str, key: str) -> None:
    file.write_text(text)
    with pytest.raises(ConfigError, match=key) as told:
        load_settings()
    assert len(told.value.message) < 600 and "\n" not in told.value.message and told.value.hint


@pytest.mark.parametrize(
    ("key", "value"), [("width", "9" * 5000), ("sinks", "[" * 5000), ("width", "a\0b"), ("sinks", "a\0b")]
)
def test_monstrous_text_for_a_list_or_number_is_refused(file: Path, key: str, value: str) -> None:
    with pytest.raises(ConfigError, match=key):
        save_settings({key: from_text(key, value)})
    assert not file.exists()


def test_names_come_with_commas_or_as_a_list(file: Path) -> None:
    for text in ("v4l2,null", '["v4l2", "null"]'):
        save_settings({"sinks": from_text("sinks", text)})
        assert load_settings().sinks == ("v4l2", "null")


@pytest.mark.parametrize("text", ["", "null", "None"])
def test_a_setting_that_may_be_unset_is_unset_by_null_and_by_nothing(file: Path, text: str) -> None:
    save_settings({"record": "film.mp4"})
    save_settings({"record": from_text("record", text)})
    assert load_settings().record is None and "record" not in file.read_text()


def test_null_is_a_sink_and_nothing_is_the_default(file: Path) -> None:
    save_settings({"sinks": from_text("sinks", "null"), "width": "640"})
    assert load_settings().sinks == ("null",)
    save_settings({"sinks": from_text("sinks", ""), "width": None})
    assert (load_settings().sinks, load_settings().width) == (("auto",), 1280)


def test_an_empty_variable_sets_nothing(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OCCLUFIX_WIDTH", "")
    monkeypatch.setenv("OCCLUFIX_RECORD", "")
    assert load_settings().width == 1280 and load_settings().record is None


@pytest.mark.skipif(sys.platform == "win32", reason="links need a privilege there")
def test_a_linked_file_stays_a_link(file: Path, tmp_path: Path) -> None:
    real = tmp_path / "dotfiles" / "settings.toml"
    real.parent.mkdir()
    real.write_text("# mine\nwidth = 640\n")
    file.parent.mkdir(parents=True, exist_ok=True)
    file.symlink_to(real)
    save_settings({"rate": 25})
    assert file.is_symlink() and "# mine" in real.read_text() and "rate = 25" in real.read_text()


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_holds_valid_settings_that_a_running_daemon_can_change(name: str) -> None:
    changed = Settings().but(**PRESETS[name])
    assert {reopened_by(key) for key in PRESETS[name]}.isdisjoint({Reopens.RESTART, Reopens.CAMERA, Reopens.SINKS})
    assert changed.enabled


def test_a_mark_is_a_switch_and_its_corner_apart(file: Path) -> None:
    file.write_text('mark = true\nmark_corner = "top-right"\nstrength = 60\n')
    settings = load_settings()
    assert settings.mark is True and settings.mark_corner == "top-right" and settings.strength == 60


def test_a_name_that_is_not_utf_8_is_a_fault_of_the_file(file: Path) -> None:
    with pytest.raises(DeviceError, match="not UTF-8"):
        load_settings({"source": "film\udcff.mp4"})
