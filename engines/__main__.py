"""python -m engines: times every candidate for each model here, once, for `load` to choose by."""

from __future__ import annotations

import sys

import engines
from engines.contract import MODEL_NAMES


def main() -> int:
    for name in MODEL_NAMES:
        try:
            found = engines.measure(name)
        except engines.EngineError as error:
            print(f"{name}: {error.message}", file=sys.stderr)  # noqa: T201  it speaks to a terminal
            continue
        print(f"{name}: {'; '.join(map(str, found))}")  # noqa: T201
    return 0


if __name__ == "__main__":
    sys.exit(main())
