"""A plan as a person reads it: on a terminal in colours, in a pipe the same words without them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby

from rich.console import Console
from rich.text import Text

from trscaler_gen.errors import NodeError
from trscaler_gen.inventory.text import printable
from trscaler_gen.plan import (
    Difference,
    Line,
    Plan,
    Refusal,
    Step,
    StepAction,
    Whole,
    differences,
    whole_files,
)
from trscaler_gen.plan.tell import summary, switch_sentences, traffic_sentences
from trscaler_gen.plan.words import counted, headed
from trscaler_gen.secret import redact

#: action -> sign, as terraform has them, and style
_LOOKS = {
    StepAction.START: ("+", "green"),
    StepAction.SWAP: ("~", "yellow"),
    StepAction.RESTART: ("-/+", "bold yellow"),
    StepAction.STOP: ("-", "red"),
    StepAction.NONE: ("", "dim"),
    StepAction.ABSENT: ("?", "yellow"),
    StepAction.UNREACHABLE: ("!", "bold red"),
    StepAction.UNFIT: ("!", "bold red"),
}
_SIGNS = {"create": ("+", "green"), "change": ("~", "yellow"), "delete": ("-", "red")}
_STYLES = {"+": "green", "-": "red", "@": "cyan", " ": ""}

_MARGIN = "  "
_ACTION_WIDTH = 13
_NARROWEST = 24
_MOST_DIFF_LINES = 200
_MOST_STDERR_LINES = 5


def show_plan(plan: Plan, console: Console | None = None, *, full: bool = False) -> None:
    """Print a plan; ``full`` leaves no line out but the seed."""
    _View(console or Console(), full).show(plan)


@dataclass(frozen=True)
class _View:
    console: Console
    full: bool

    def show(self, plan: Plan) -> None:
        self._head(plan)
        self._nodes(plan)
        self._files(plan)
        if not plan.is_empty:
            self._section("Traffic", traffic_sentences(plan.traffic, full=self.full))
        self._section("Switch", switch_sentences(plan.switch, plan.traffic.buckets))
        self._section("Disruption (needs --allow-disruption)", plan.disruption, "red")
        self._refusals(plan.refusals)
        self._section("Notes", plan.notes, "yellow")
        self._blank()
        self._put("", summary(plan), "bold red" if not plan.is_applicable else "bold")

    # --- parts ---------------------------------------------------------------------------------------

    def _head(self, plan: Plan) -> None:
        self._put("", f"Cluster {plan.cluster} ({plan.source})", "bold")
        change = f"change {plan.change}"
        epoch = _span("epoch", plan.epoch_before, plan.epoch_after)
        serial = _span("serial", plan.serial_before, plan.serial_after)
        self._put(_MARGIN, f"{change}, {epoch}, {serial}", "dim")

    def _nodes(self, plan: Plan) -> None:
        if plan.is_empty and not any(step.action is StepAction.ABSENT for step in plan.steps):
            return
        self._title("Nodes")
        for alike in _alike(plan.steps):
            self._node(alike)

    def _node(self, alike: Sequence[Step]) -> None:
        step = alike[0]
        sign, style = _LOOKS[step.action]
        word = "unchanged" if step.action is StepAction.NONE else step.action.value
        lead = Text(f"{_MARGIN}{sign:<3} {word:<{_ACTION_WIDTH}}", style)
        self._put(lead, f"{headed([_name(each) for each in alike])}{_generations(alike)}", "bold")
        indent = " " * len(lead)
        if step.services:
            self._put(indent, ", ".join(step.services))
        for text in step.drift:
            self._put(f"{indent}drift: ", text, "yellow")
        if step.problem:
            self._problem(indent, step.problem)

    def _problem(self, indent: str, error: NodeError) -> None:
        self._put(indent, error.message, "red")
        if error.command:
            self._put(f"{indent}command: ", error.command_and_status)
        for line in error.stderr.strip().splitlines()[-_MOST_STDERR_LINES:]:
            self._put(f"{indent}| ", line)
        if error.hint:
            self._put(f"{indent}hint: ", error.hint)

    def _files(self, plan: Plan) -> None:
        changed = differences(plan.steps, full=self.full)
        whole = () if self.full else whole_files(plan.steps)
        if not changed and not whole:
            return
        self._title("Files")
        for each in whole:
            self._whole(each)
        for difference in changed:
            self._difference(difference)

    def _whole(self, whole: Whole) -> None:
        sign, style = _SIGNS[whole.kind]
        number = counted(len(whole.files), "file")
        verb = "created" if whole.kind == "create" else "deleted"
        self._put(Text(f"{_MARGIN}{sign} ", style), f"{headed(whole.nodes)}: {number} {verb}", "bold")
        if whole.kind == "delete":
            self._put(_MARGIN * 2, ", ".join(name for name, _, _ in whole.files))
            return
        width = max(len(name) for name, _, _ in whole.files)
        for name, least, most in whole.files:
            self._put(_MARGIN * 2, f"{name:<{width}}  {_range(least, most)}")

    def _difference(self, difference: Difference) -> None:
        sign, style = _SIGNS[difference.kind]
        counts = Text.assemble((f"+{difference.added}", "green"), " ", (f"-{difference.removed}", "red"))
        title = Text.assemble(
            (f"{printable(difference.name)}", "bold"), f" on {headed(difference.nodes)}  ", counts
        )
        self._put(Text(f"{_MARGIN}{sign} ", style), title if difference.lines else _derived(difference))
        self._diff_lines(difference.lines)

    def _diff_lines(self, lines: Sequence[Line]) -> None:
        shown = lines if self.full else lines[:_MOST_DIFF_LINES]
        text = Text()
        # A span of its own for every line would cost rich seconds.
        for mark, alike in groupby(shown, key=lambda line: line.mark):
            sign = "@@ " if mark == "@" else mark
            words = (f"{_MARGIN * 2}{sign}{line.text}".rstrip(" ") + "\n" for line in alike)
            text.append("".join(words), _STYLES[mark])
        if self.console.is_terminal:
            self.console.print(text, soft_wrap=True, end="")
        else:
            self.console.out(text.plain, highlight=False, end="")
        if len(shown) < len(lines):
            self._put(_MARGIN * 2, f"... {len(lines) - len(shown)} more lines: --full shows them", "dim")

    def _refusals(self, refusals: Sequence[Refusal]) -> None:
        if not refusals:
            return
        self._title("Refused", "bold red")
        for refusal in refusals:
            self._put(_MARGIN, refusal.message, "red")
            self._put(f"{_MARGIN}  hint: ", refusal.hint)

    def _section(self, title: str, sentences: Iterable[str], style: str = "") -> None:
        texts = tuple(sentences)
        if texts:
            self._title(title, f"bold {style}")
        for text in texts:
            self._put(_MARGIN, text, style)

    # --- lines ---------------------------------------------------------------------------------------

    def _blank(self) -> None:
        self.console.print()

    def _title(self, title: str, style: str = "bold") -> None:
        self._blank()
        self._put("", title, style)

    def _put(self, lead: str | Text, body: str | Text, style: str = "") -> None:
        """Print one entry; on a terminal what does not fit goes below its beginning."""
        first = lead if isinstance(lead, Text) else Text(lead)
        text = body if isinstance(body, Text) else Text(printable(redact(body)), style)
        if not self.console.is_terminal:
            self.console.print(Text.assemble(first, text), soft_wrap=True)
            return
        width = max(_NARROWEST, self.console.width - first.cell_len)
        for line in text.wrap(self.console, width):
            line.rstrip()
            self.console.print(Text.assemble(first, line), soft_wrap=True)
            first = Text(" " * first.cell_len)


def _alike(steps: Iterable[Step]) -> list[list[Step]]:
    """Group the nodes to which the same is done, for the same reasons."""
    groups: dict[tuple[object, ...], list[Step]] = {}
    for step in steps:
        error = step.problem
        trouble = (error.message, error.hint, error.command, error.stderr) if error else ()
        groups.setdefault((step.action, step.services, step.drift, trouble), []).append(step)
    return list(groups.values())


def _name(step: Step) -> str:
    return f"{step.node} (drained)" if step.is_drained else step.node


def _generations(alike: Sequence[Step]) -> str:
    """Name the generations of a node that is alone."""
    step = alike[0]
    if (
        len(alike) > 1
        or step.before == step.after
        or step.action in (StepAction.UNREACHABLE, StepAction.UNFIT)
    ):
        return ""
    return f"  {step.before or 'nothing'} -> {step.after or 'nothing'}"


def _derived(difference: Difference) -> Text:
    """Say why there is nothing to see: tags and digests follow from other files."""
    words = f"on {headed(difference.nodes)}: only what follows from other files (--full shows it)"
    return Text.assemble((printable(difference.name), "bold"), f" {words}")


def _range(least: int, most: int) -> str:
    return counted(most, "line") if least == most else f"{least} to {most} lines"


def _span(word: str, before: int, after: int) -> str:
    return f"{word} {after}" if before in (0, after) else f"{word} {before} -> {after}"
