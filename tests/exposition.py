"""Prometheus' text format, judged by promtool and read into values."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass

_SAMPLE = re.compile(r"([a-z_]+)\{([^{}]*)\} ([0-9.]+)")
_LABEL = re.compile(r'([a-z_]+)="([^"]*)"')


@dataclass(frozen=True)
class Exposition:
    """What one node told."""

    text: str

    @property
    def types(self) -> dict[str, str]:
        """The type of each metric, by name."""
        return dict(line.split()[2:4] for line in self.text.splitlines() if line.startswith("# TYPE "))

    @property
    def labels(self) -> dict[str, set[str]]:
        """The labels of each metric, by its name."""
        return {name: set(labels) for name, labels, _ in self}

    def __iter__(self) -> Iterator[tuple[str, dict[str, str], float]]:
        for line in self.text.splitlines():
            if not line.startswith("#"):
                sample = _SAMPLE.fullmatch(line)
                assert sample, line
                yield sample[1], dict(_LABEL.findall(sample[2])), float(sample[3])

    def value(self, name: str, **wanted: str) -> float | None:
        """The value of the one sample with these labels; None if there is none."""
        found = [value for own, labels, value in self if own == name and wanted.items() <= labels.items()]
        assert len(found) <= 1, found
        return found[0] if found else None


def judged(text: str) -> Exposition:
    """The text, once promtool has nothing to say against it."""
    argv = ["promtool", "check", "metrics"]
    done = subprocess.run(argv, input=text, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout + done.stderr) == (0, ""), text
    return Exposition(text)


def documented(page: str) -> dict[str, tuple[str, set[str]]]:
    """Type and further labels of each metric in the page's table."""
    rows = re.findall(r"^\| `(trscaler_\w+)` \| (\w+) \| ([^|]*)\|", page, re.M)
    return {name: (kind, set(re.findall(r"`(\w+)`", labels))) for name, kind, labels in rows}


def names_in(expression: str) -> set[str]:
    """The names of this product's metrics in a PromQL expression."""
    return set(re.findall(r"\btrscaler_\w+", expression))
