"""python -m engines: times every candidate for each model once, so that `load` picks the fastest.

With --end-with-stdin it ends as soon as its standard input closes, and so with the process that started it, however
that one ended.
"""

from __future__ import annotations

import os
import sys
import threading

import engines
from engines.contract import MODEL_NAMES

END_WITH_STDIN = "--end-with-stdin"


def main() -> int:
    if END_WITH_STDIN in sys.argv[1:]:
        threading.Thread(target=_end_with_stdin, daemon=True).start()
    for name in MODEL_NAMES:
        try:
            found = engines.measure(name)
        except engines.EngineError as error:
            print(f"{name}: {error.message}", file=sys.stderr)  # noqa: T201  it writes to a terminal
            continue
        print(f"{name}: {'; '.join(map(str, found))}")  # noqa: T201
    return 0


def _end_with_stdin() -> None:
    sys.stdin.buffer.read()
    os._exit(1)


if __name__ == "__main__":
    sys.exit(main())
