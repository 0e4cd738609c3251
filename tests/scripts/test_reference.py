"""The reference pages say what the code says."""

from __future__ import annotations

from pathlib import Path

import pytest

from scripts import reference


def test_the_pages_are_those_of_the_code() -> None:
    assert reference.outdated() == [], "run: python -m scripts.reference"


def test_check_names_a_page_that_is_out_of_date_and_leaves_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "openapi.json").write_bytes((reference.DOCS / "openapi.json").read_bytes())
    monkeypatch.setattr(reference, "DOCS", tmp_path)
    assert reference.main(["--check"]) == 1
    assert "commands.md" in capsys.readouterr().err
    assert not (tmp_path / "commands.md").exists()


def test_written_pages_pass_the_check(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "openapi.json").write_bytes((reference.DOCS / "openapi.json").read_bytes())
    monkeypatch.setattr(reference, "DOCS", tmp_path)
    assert reference.main([]) == 0
    assert reference.main(["--check"]) == 0
    assert sorted(file.name for file in tmp_path.iterdir()) == ["api.md", "commands.md", "openapi.json"]


@pytest.mark.parametrize(
    ("page", "line"),
    [
        ("commands.md", "| `--sink` | text, repeatable |"),
        ("commands.md", "| `IN` | path | required |"),
        ("commands.md", "| `--json` |"),
        ("commands.md", "| `min_coverage` | 0 to 1 | `0.02` |"),
        ("api.md", "- answer 200: [Status](#status)"),
        ("api.md", "- answer 200: `image/jpeg` or `image/png`"),
    ],
)
def test_a_page_has_names_values_and_defaults(page: str, line: str) -> None:
    assert line in reference.pages()[reference.DOCS / page]


def test_hidden_options_are_left_out() -> None:
    assert "--detached" not in reference.pages()[reference.DOCS / "commands.md"]
