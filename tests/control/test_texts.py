"""The page's texts: the same keys and placeholders in every language, and none that nobody uses."""

from __future__ import annotations

import ast
import re
from typing import get_args

import pytest

from occlufix_vcam.control.forms import settings_form
from occlufix_vcam.control.page_routes import PAGE
from occlufix_vcam.core.errors import CameraLost, Trouble, trouble_of
from occlufix_vcam.core.settings import PRESETS
from occlufix_vcam.desktop.tray.status_view import Troubles
from occlufix_vcam.enrollment.collector import Need
from occlufix_vcam.language import FOLDER, languages, read_words, words_for
from tests.conftest import ROOT

KEY = re.compile(r"""["'`>=]([a-z]+\.[\w%-]+)["'`<]""")
TEXTS = {language: read_words(language)._texts for language in languages()}
ENGLISH = TEXTS["en"]


def sources() -> str:
    """Everything that names a key: the page, the tray icon, and the refusal page."""
    files = [*PAGE.glob("*.js"), PAGE / "index.html", *(ROOT / "occlufix_vcam/desktop/tray").glob("*.py")]
    return "\n".join(file.read_text(encoding="utf-8") for file in files)


def composed() -> set[str]:
    """Keys that are put together from what the daemon says."""
    form = settings_form()
    choices = {f"{field['name']}.{choice}" for field in form for choice in field["choices"] or ()}
    plain = {choice.partition(".")[2] for choice in choices}
    return (
        {key for key in ENGLISH if key.startswith(("said.", "again."))}
        | {f"set.{field['name']}" for field in form}
        | {f"help.{field['name']}" for field in form}
        | {f"form.{field['unit']}{more}" for field in form for more in ("", "1")}
        | {f"form.{field['part']}" for field in form}
        | {f"choice.{choice}" for choice in choices | plain}
        | {f"preset.{name}{more}" for name in PRESETS for more in ("", "text")}
        | {f"need.{need}" for need in (*get_args(Need), "preparing")}
        | {f"mood.{state}" for state in ("starting", "loading", "waiting", "stopping")}
        | {f"trouble.{place}" for place in ("capture", "process", "output")}
        | {f"lost.{kind}{more}" for kind in ("gone", "locked", "used", "missing") for more in ("", "text")}
        | {f"well.{name}" for name in ("fast", "good", "slow")}
        | {
            f"well.{stage}"
            for stage in ("wait", "find", "align", "hidden", "remember", "restore", "blend", "total", "out")
        }
        | {f"guide.{one}" for one in ("zoom", "teams", "meet", "chrome", "firefox", "obs", "discord")}
        | {"lost.denied"}
    )


def error_codes() -> dict[str, set[str]]:
    """Codes that errors and troubles get, with the values that come with each wherever it is given."""
    found: dict[str, list[set[str]]] = {}
    for file in (*(ROOT / "occlufix_vcam").rglob("*.py"), *(ROOT / "engines").rglob("*.py")):
        for call in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            given = {word.arg: word.value for word in getattr(call, "keywords", [])}
            code = given.get("code")
            code = code.body if isinstance(code, ast.IfExp) else code
            if isinstance(code, ast.Constant) and code.value:
                more = given.get("values")
                keys = [getattr(key, "value", "") for key in more.keys] if isinstance(more, ast.Dict) else []
                found.setdefault(str(code.value), []).append({*keys, *map(str, given)})
    return {code: set.intersection(*values) for code, values in found.items()}


def test_every_code_of_an_error_has_words_and_what_they_mention_comes_with_it() -> None:
    errors = error_codes()
    assert {
        key.removeprefix("said.").removesuffix("_do") for key in ENGLISH if key.startswith("said.")
    } == errors.keys()
    told = {key.removeprefix("again.") for key in ENGLISH if key.startswith("again.")}
    assert told <= {*errors, "settings"}, "what is said instead of a new try belongs to an error, or to a place"
    for code, values in errors.items():
        for key in (f"said.{code}", f"said.{code}_do"):
            assert set(re.findall(r"{(\w+)}", ENGLISH.get(key, ""))) <= values, key


def test_an_error_is_told_in_the_readers_language_and_as_it_came_where_there_are_no_words() -> None:
    german = read_words("de")
    gone = trouble_of(CameraLost("the camera Cam (/dev/video0) is gone", "x", code="camera_gone", camera="Cam"))
    assert german.said(gone) == ("Die Kamera Cam ist weg", "Schließ sie wieder an oder wähle eine andere")
    assert german.said(Trouble("no code", "do this")) == ("no code", "do this")
    assert german.said(Trouble("of a later version", "do that", "unheard_of")) == ("of a later version", "do that")
    assert german.said(Trouble("photo: too small", "another", "small"))[0] == "Dein Gesicht ist klein: komm näher"


def test_the_icon_tells_a_trouble_in_its_language_and_once() -> None:
    news = Troubles(read_words("de"))
    codes = {"output": {"code": "disk_full", "values": {"file": "a.mp4"}}}
    status = {
        "trouble": {"output": "the disk is full", "null": "broken"},
        "hints": {"output": "free it"},
        "codes": codes,
    }
    assert [line for lines in news.news(status) for line in lines] == [
        "Störung, Ausgabe: Der Datenträger ist voll: a.mp4 lässt sich nicht aufnehmen",
        "Dein Anruf läuft weiter. Schaffe Platz",
        "Störung, null: broken",
        "OccluFix Camera versucht es selbst erneut. Näheres zeigt occlufix-vcam doctor",
    ]
    assert news.news(status) == [] and news.news({"trouble": {}}) == []


def test_there_are_the_languages_that_are_promised() -> None:
    assert set(languages()) >= {"en", "de", "es", "fr", "zh", "hi"}
    assert all(f'{language}: "' in (PAGE / "texts.js").read_text(encoding="utf-8") for language in languages())


@pytest.mark.parametrize("language", languages())
def test_every_key_is_in_every_language_with_the_same_placeholders(language: str) -> None:
    texts = TEXTS[language]
    assert texts.keys() == ENGLISH.keys()
    holes = {key: [set(re.findall(r"{(\w+)}", told[key])) for told in (ENGLISH, texts)] for key in ENGLISH}
    assert {key: both for key, both in holes.items() if both[0] != both[1]} == {}
    assert [key for key, text in texts.items() if not text.strip()] == []


def test_every_key_that_is_named_is_there_and_every_key_is_named() -> None:
    named = {
        key for key in KEY.findall(sources()) if key.partition(".")[0] in {key.partition(".")[0] for key in ENGLISH}
    }
    assert named - ENGLISH.keys() == set()
    assert ENGLISH.keys() - named - composed() == set()


def test_what_is_asked_for_has_its_words() -> None:
    form = settings_form()
    for field in form:
        for choice in field["choices"] or ():
            raw = isinstance(choice, int) or field["name"] == "precision"
            assert raw or read_words("en").find(f"choice.{field['name']}.{choice}", f"choice.{choice}"), choice
    unsure = next(field for field in form if field["name"] == "when_unsure")
    words = dict(zip(unsure["choices"] or (), unsure["words"] or (), strict=True))
    assert words["blank"] == "Show squares"


@pytest.mark.parametrize(
    ("wanted", "language"), [("de-AT", "de"), ("zh_TW", "zh"), ("pt", "en"), ("C", "en"), ("", "en")]
)
def test_the_nearest_language_is_taken(wanted: str, language: str) -> None:
    assert words_for([wanted]).language == language


def test_the_page_is_small_in_every_language() -> None:
    code = sum(file.stat().st_size for file in PAGE.iterdir() if file.is_file())
    longest = max(file.stat().st_size for file in FOLDER.iterdir())
    assert code + longest <= 120_000
