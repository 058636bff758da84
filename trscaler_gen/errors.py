"""The two roots of errors: the user's input (theirs to mend, no traceback) and a node's refusal."""

from __future__ import annotations

from dataclasses import dataclass

from trscaler_gen.secret import redact


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong in a file that the user wrote.

    ``line`` and ``column`` count from 1; 0 means that the place is not known.
    """

    source: str
    line: int
    column: int
    code: str
    message: str
    hint: str = ""
    excerpt: str = ""


class InputError(Exception):
    """Everything that is wrong with the user's input, reported at once."""

    def __init__(self, problems: list[Problem]) -> None:
        super().__init__("; ".join(problem.message for problem in problems))
        self.problems = tuple(problems)


class OperationError(Exception):
    """Something outside refused: says what happened and what to do next."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class NodeError(OperationError):
    """A command failed on a node, or the node could not be reached.

    What the node said may quote a line that holds the seed: it is redacted before anybody can print it.
    """

    def __init__(
        self,
        node: str,
        message: str,
        *,
        hint: str = "",
        command: str = "",
        status: int | None = None,
        stderr: str = "",
    ) -> None:
        super().__init__(redact(message), hint)
        self.node = node
        self.command = command
        self.status = status
        self.stderr = redact(stderr)

    @property
    def command_and_status(self) -> str:
        """The command that failed and how it ended, where that is known."""
        return self.command if self.status is None else f"{self.command} (exit {self.status})"

    def with_node(self, node: str, hint: str = "") -> NodeError:
        """The same error, of other nodes or with another hint."""
        return NodeError(
            node,
            self.message,
            hint=hint or self.hint,
            command=self.command,
            status=self.status,
            stderr=self.stderr,
        )
