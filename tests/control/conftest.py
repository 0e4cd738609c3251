"""A control API over a real loopback socket, and the whole product as a process of its own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from occlufix_vcam.core.settings import Settings
from occlufix_vcam.runtime.daemon import Daemon
from tests.harness.control import Product, Served, serving, started


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serving(Daemon(Settings()), tmp_path_factory.mktemp("state")) as served:
        yield served


@pytest.fixture(scope="module")
def product(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Product]:
    with started(tmp_path_factory.mktemp("product")) as product:
        yield product
