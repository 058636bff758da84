"""What is written down about a running lab, so that a later command, or a cleaner, finds it again."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from trscaler_gen.errors import OperationError
from trscaler_gen.inventory.model import Address
from trscaler_gen.lab.processes import Process

DIRECTORY_VARIABLE = "TRSCALER_LAB_DIR"
DEFAULT_DIRECTORY = Path("/run/trscaler-gen/lab")
STATE_FILE = "state.json"
_VERSION = 1


@dataclass(frozen=True)
class Member:
    """A node, the client or the switch. ``process`` is the first one of its namespaces, once started."""

    name: str
    kind: str
    port: str
    link: str
    address4: str
    address6: str
    ssh_port: int
    process: Process | None = None


@dataclass(frozen=True)
class State:
    """One lab: complete once ``phase`` is "up"."""

    phase: str
    cluster: str
    inventory: str
    virtual_addresses: tuple[Address, ...]
    members: dict[str, Member] = field(default_factory=dict)


def lab_directory(given: Path | None = None) -> Path:
    """Where the lab keeps its files: as given, else $TRSCALER_LAB_DIR, else /run/trscaler-gen/lab."""
    return (given or Path(os.environ.get(DIRECTORY_VARIABLE) or DEFAULT_DIRECTORY)).absolute()


def write_state(directory: Path, state: State) -> None:
    """Replace the state file in one step."""
    temporary = directory / f".{STATE_FILE}"
    temporary.write_text(json.dumps(_to_json(state), indent=1) + "\n")
    temporary.rename(directory / STATE_FILE)


def read_state(directory: Path) -> State | None:
    """What was written last; None without a file; raises OperationError if it cannot be understood."""
    try:
        document = json.loads((directory / STATE_FILE).read_text())
        return _from_json(document)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise OperationError(
            f"the lab's state in {directory / STATE_FILE} cannot be read ({type(error).__name__}: {error})",
            "clean up with `trscaler-gen lab down`",
        ) from error


def _to_json(state: State) -> dict[str, Any]:
    members = {
        member.name: {**vars(member), "process": member.process and vars(member.process)}
        for member in state.members.values()
    }
    addresses = [str(address) for address in state.virtual_addresses]
    return {"version": _VERSION, **vars(state), "virtual_addresses": addresses, "members": members}


def _from_json(document: dict[str, Any]) -> State:
    if document["version"] != _VERSION:
        raise ValueError(f"version {document['version']}, this program knows {_VERSION}")
    return State(
        phase=document["phase"],
        cluster=document["cluster"],
        inventory=document["inventory"],
        virtual_addresses=tuple(ip_address(text) for text in document["virtual_addresses"]),
        members={name: _member(values) for name, values in document["members"].items()},
    )


def _member(values: dict[str, Any]) -> Member:
    process = values["process"]
    return Member(**{**values, "process": Process(**process) if process else None})
