"""The whole product as a process of its own, for its icon and its hotkey."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.harness.control import Product, started


@pytest.fixture(scope="module")
def product(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Product]:
    with started(tmp_path_factory.mktemp("product")) as product:
        yield product
