"""Sleep a little, again and again, on one CPU, and note when that took long.

Runs alone: the standard library only. To every line of its input it answers what it has noted since the line
before: from when to when, in s of CLOCK_MONOTONIC, a line each, and then "so far". It ends with its input.
"""

from __future__ import annotations

import os
import select
import sys
import time

NAP_S = 0.01
#: what is shorter is no stall but other work
LONG_S = 0.03


def main() -> None:
    """Watch the CPU of the number argv[1]."""
    os.sched_setaffinity(0, {int(sys.argv[1])})
    noted: list[str] = []
    while True:
        before_s = time.monotonic()
        asked = select.select([0], [], [], NAP_S)[0]
        after_s = time.monotonic()
        if after_s - before_s > LONG_S:
            noted.append(f"{before_s!r} {after_s!r}")
        if asked:
            if not os.read(0, 1):
                return
            print(*noted, "so far", sep="\n", flush=True)
            noted.clear()


if __name__ == "__main__":
    main()
