"""Finds tests that pass only at a second attempt in pytest's reports, and remembers them from run to run.

The record is in the user's cache folder, because a continuous integration starts each run in a fresh clone.
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
    """Names of the tests that ran, and of those that failed."""

    ran: frozenset[str] = frozenset()
    failed: frozenset[str] = frozenset()


def read_report(junit: Path) -> Attempt:
    """Reads an attempt from pytest's `--junitxml`; empty if pytest wrote none."""
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
    """Default record in the user's cache folder."""
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "occlufix-vcam-tests" / RECORD


def remember(ran: frozenset[str], late: frozenset[str], record: Path) -> frozenset[str]:
    """Those of `late` that were also late in the previous run. Tests that did not run keep their entry."""
    before = _read(record)
    record.parent.mkdir(parents=True, exist_ok=True)
    record.write_text(json.dumps(sorted((before - ran) | late), indent=1), encoding="utf-8")
    return late & before


def _read(record: Path) -> frozenset[str]:
    try:
        return frozenset(json.loads(record.read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return frozenset()
