"""A script at work in the client's network namespace: it says "started", and reports as lines of JSON."""

from __future__ import annotations

import json
import select
import subprocess
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from trscaler_gen.errors import OperationError


class ClientScript:
    """The process and its pipes. ``name`` is what errors call it."""

    def __init__(self, name: str, process: subprocess.Popen[str]) -> None:
        self.name = name
        self._process = process

    @classmethod
    def start(
        cls, name: str, file: str, plan: Mapping[str, Any], *, client_pid: int, environment: Mapping[str, str]
    ) -> ClientScript:
        """Start ``file``, which lies beside this module, with the plan as its one argument."""
        script = Path(__file__).with_name(file)
        process = subprocess.Popen(
            ["nsenter", f"--target={client_pid}", "--net", "--", *_python(), str(script), json.dumps(plan)],
            env=dict(environment),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,  # a Ctrl-C in the terminal is for its parent, which then asks it to stop
        )
        return cls(name, process)

    @property
    def pid(self) -> int:
        """The script's own process."""
        return self._process.pid

    def started_s(self, timeout_s: float) -> float:
        """When it says that it has started (CLOCK_MONOTONIC); it is ended if it does not say so in time."""
        try:
            words = self._line(timeout_s).split()
            if words[:1] == ["started"]:
                return float(words[1])
            raise OperationError(f"{self.name} did not start: {self._complaint()}")
        except BaseException:
            self.abandon()
            raise

    def tell(self, line: str) -> None:
        """Write a line to its standard input; one that has ended hears nothing."""
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):
            self._process.stdin.write(f"{line}\n")
            self._process.stdin.flush()

    def end_input(self) -> None:
        """Ask it to come to an end; again is no error."""
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):
            self._process.stdin.close()

    def report(self, timeout_s: float | None) -> dict[str, Any]:
        """Its next report; raises OperationError if it has died or says nothing in time."""
        line = self._line(timeout_s)
        if not line:
            raise OperationError(
                f"{self.name} died: {self._complaint()}", "was the lab taken down meanwhile?"
            )
        report: dict[str, Any] = json.loads(line)
        return report

    def abandon(self) -> None:
        """Kill it."""
        self._process.kill()
        self.close()

    def close(self) -> None:
        """Wait for its end, and close the pipes."""
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout, self._process.stderr):
            if pipe is not None:
                with suppress(BrokenPipeError):
                    pipe.close()

    def _line(self, timeout_s: float | None) -> str:
        assert self._process.stdout is not None
        ready, _, _ = select.select([self._process.stdout], [], [], timeout_s)
        return self._process.stdout.readline() if ready else ""

    def _complaint(self) -> str:
        """The last line of what a script that failed has said; it is ended, if it has not ended itself."""
        assert self._process.stderr is not None
        self._process.kill()
        told = self._process.stderr.read().strip().splitlines() or ["it says nothing"]
        self.close()
        return told[-1]


def positive(what: str, value: float) -> float:
    """The value; raises OperationError if it is not more than 0."""
    if value <= 0:
        raise OperationError(f"{what} must be more than 0, not {value:g}")
    return value


def _python() -> list[str]:
    return ["/usr/bin/python3", "-I", "-S", "-E"]
