"""The occlufix-vcam command, also as `python -m occlufix_vcam`.

`toggle` is used in the middle of a call, so it runs before the rest of the command line is imported.
"""

from __future__ import annotations

import sys

from occlufix_vcam.client.fast_toggle import quick_toggle


def main() -> None:
    told, failure = None, None
    try:
        told = quick_toggle(sys.argv[1:])
    except Exception as error:  # noqa: BLE001  the command line reports it
        failure = error
    if told is None:
        from occlufix_vcam.cli import app

        app.main(failure)
    sys.stdout.write(f"{told}\n")


if __name__ == "__main__":
    main()
