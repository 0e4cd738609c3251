"""The words of control page and tray icon in every language: the page's own files."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterable, Mapping
from pathlib import Path

from occlufix_vcam.core.errors import Trouble

FOLDER = Path(__file__).parent / "control" / "page" / "texts"
DEFAULT = "en"


class Words:
    """The texts of one language, by keys like "see.title"."""

    def __init__(self, language: str, texts: Mapping[str, str]) -> None:
        self.language = language
        self._texts = texts

    def __call__(self, key: str, **values: object) -> str:
        """The text with its placeholders filled in. Raises KeyError for a key that there is not."""
        return self._texts[key].format(**values)

    def find(self, *keys: str) -> str | None:
        """The text of the first of these keys that there is."""
        return next((self._texts[key] for key in keys if key in self._texts), None)

    def said(self, trouble: Trouble) -> tuple[str, str]:
        """What happened and what to do, by the trouble's code; as it came, in English, where it has no words."""
        own = self.find(f"said.{trouble.code}", f"need.{trouble.code}"), self.find(f"said.{trouble.code}_do")
        given = trouble.what, trouble.hint
        what, hint = (text.format(**trouble.values) if text else told for text, told in zip(own, given, strict=True))
        return what, hint

    def count(self, number: int, one: str, many: str) -> str:
        """The text for one, or for many with their number as {n}."""
        return self(one if number == 1 else many, n=number)


@functools.cache
def languages() -> tuple[str, ...]:
    return tuple(sorted(file.stem for file in FOLDER.glob("*.json")))


def words_for(wanted: Iterable[str]) -> Words:
    """Words in the first of the wanted languages that there is, such as "de-AT" or "pt_BR"; else English."""
    codes = (name.strip()[:2].lower() for name in wanted)
    return read_words(next((code for code in codes if code in languages()), DEFAULT))


@functools.cache
def read_words(language: str) -> Words:
    groups = json.loads((FOLDER / f"{language}.json").read_text(encoding="utf-8"))
    return Words(language, {f"{group}.{key}": text for group, texts in groups.items() for key, text in texts.items()})
