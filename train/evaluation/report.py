"""Reports of an evaluation: figures by name, tables in Markdown, everything as JSON, contact sheets."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from engines.contract import Image

#: Decimals of a figure by the beginning of its name; all others have three.
_DECIMALS = {"cases": 0, "psnr": 2, "seam": 2, "fid": 4, "kid": 6, "pd_": 4, "lpips": 4}
_LABEL_PX = 18


@dataclass(frozen=True)
class EvalReport:
    """`figures` of the network under test, `tables` in Markdown, and `detail`: all that was measured."""

    figures: dict[str, float]
    tables: str
    detail: dict[str, Any] = field(default_factory=dict)

    def write(self, out: Path) -> None:
        """figures.json, report.json and report.md into `out`."""
        out.mkdir(parents=True, exist_ok=True)
        (out / "figures.json").write_text(_json(self.figures), encoding="utf-8")
        (out / "report.json").write_text(_json(self.detail or self.figures), encoding="utf-8")
        (out / "report.md").write_text(self.tables, encoding="utf-8")


def joined(first: EvalReport, second: EvalReport) -> EvalReport:
    """One report of two."""
    return EvalReport(first.figures | second.figures, first.tables + second.tables, first.detail | second.detail)


def by_kind_tables(figures: Mapping[str, Mapping[str, Mapping[str, float]]], title: str) -> str:
    """A table for each kind of case: a row for each method, a column for each figure."""
    parts = [f"## {title}\n"]
    for kind, methods in figures.items():
        names = list(dict.fromkeys(name for values in methods.values() for name in values))
        lines = [
            f"| {kind} | {' | '.join(name.replace('_', ' ') for name in names)} |",
            "|---" * (len(names) + 1) + "|",
        ]
        for method, values in methods.items():
            cells = (_number(name, values.get(name, math.nan)) for name in names)
            lines.append(f"| {method} | {' | '.join(cells)} |")
        parts.append("\n".join(lines) + "\n")
    return "\n".join(parts) + "\n"


def column_table(figures: Mapping[str, Mapping[str, float]], title: str) -> str:
    """One table: a row for each figure, a column for each network."""
    names = list(dict.fromkeys(name for values in figures.values() for name in values))
    lines = [f"| {title} | {' | '.join(figures)} |", "|---" * (len(figures) + 1) + "|"]
    for name in names:
        cells = (_number("", values.get(name, math.nan)) for values in figures.values())
        lines.append(f"| {name.replace('_', ' ')} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def column_report(network: str, found: Mapping[str, Mapping[str, float]], more: Mapping[str, float] = {}) -> EvalReport:
    """Report of one table: `found` holds the figures of each network, the one under test first.

    `more` are kept beside that one's own.
    """
    own = next(iter(found.values()))
    return EvalReport({**own, **more}, column_table(found, network), {network: dict(found)})


def sheet(path: Path, rows: Sequence[Sequence[Image]], titles: Sequence[str]) -> None:
    """A contact sheet as PNG: a row for each case, the titles above the columns."""
    if not rows:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    side = rows[0][0].shape[1]
    head = np.zeros((_LABEL_PX, side * len(titles), 3), np.uint8)
    for number, title in enumerate(titles):
        at = (number * side + 4, _LABEL_PX - 5)
        cv2.putText(head, title, at, cv2.FONT_HERSHEY_SIMPLEX, 0.45, (255, 255, 255), 1, cv2.LINE_AA)
    cv2.imwrite(str(path), np.vstack([head, *(np.hstack(list(row)) for row in rows)]))


def _number(name: str, value: float) -> str:
    if math.isnan(value):
        return "-"
    decimals = next((count for beginning, count in _DECIMALS.items() if name.startswith(beginning)), 3)
    return f"{value:.{decimals}f}"


def _json(content: Any) -> str:
    return json.dumps(_finite(content), indent=1)


def _finite(content: Any) -> Any:
    """JSON knows no NaN: what could not be measured is null."""
    if isinstance(content, Mapping):
        return {name: _finite(value) for name, value in content.items()}
    return None if isinstance(content, float) and not math.isfinite(content) else content
