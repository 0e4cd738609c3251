"""Tests that pass only at a second attempt: found in pytest's reports, and remembered from run to run.

The record lies in the user's cache folder, for a continuous integration starts each run in a fresh clone.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

RECORD = "second-attempts.json"


@dataclass(frozen=True, slots=True)
class Attempt:
    """Names of the tests that ran, and of those among them that failed."""

    ran: frozenset[str] = frozenset()
    failed: frozenset[str] = frozenset()


def read_report(junit: Path) -> Attempt:
    """The attempt that pytest's `--junitxml` tells of; an empty one where pytest wrote none."""
    if not junit.exists():
        return Attempt()
    ran, failed = set(), set()
    for case in ElementTree.parse(junit).iter("testcase"):
        outcomes = {child.tag for child in case}
        if "skipped" in outcomes:
            continue
        ran.add(name := f"{case.get('classname')}::{case.get('name')}")
        if outcomes & {"failure", "error"}:
            failed.add(name)
    return Attempt(frozenset(ran), frozenset(failed))


def default_record() -> Path:
    """The file in the user's cache folder."""
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "occlufix-vcam-tests" / RECORD


def remember(ran: frozenset[str], late: frozenset[str], record: Path) -> frozenset[str]:
    """Those of `late` that were late in their run before, too. What did not run keeps its entry."""
    before = _read(record)
    record.parent.mkdir(parents=True, exist_ok=True)
    record.write_text(json.dumps(sorted((before - ran) | late), indent=1), encoding="utf-8")
    return late & before


def _read(record: Path) -> frozenset[str]:
    try:
        return frozenset(json.loads(record.read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return frozenset()
