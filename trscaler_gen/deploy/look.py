"""Looking at a cluster's nodes, all at once, without touching them: what a plan is made of."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from trscaler_gen.bundle import Bundle
from trscaler_gen.deploy.fleet import Fleet, Phase
from trscaler_gen.deploy.node import observe, read_files
from trscaler_gen.deploy.preflight import objections
from trscaler_gen.errors import NodeError
from trscaler_gen.facts import Facts
from trscaler_gen.plan import Seen, UnfitNode, Wanted

if TYPE_CHECKING:  # paramiko is imported by those who connect
    from trscaler_gen.transport import Connection


def look(fleet: Fleet, wanted: Wanted) -> dict[str, Seen | NodeError]:
    """Read every node's facts, and those of its files that are not as wanted; answers by node."""
    inventory = wanted.inventory

    def task(node: str, connection: Connection) -> Seen:
        bundle = wanted.bundles.get(node)
        link = inventory.link_of(node) if bundle else "lo"
        generation = bundle.generation if bundle else ""
        facts = observe(node, connection, cluster=inventory.cluster, link=link, generation=generation)
        problems = objections(facts, link, bundle)
        if problems:
            message = "; ".join(problem.message for problem in problems)
            hints = "; ".join(problem.hint for problem in problems)
            raise UnfitNode(node, message, hint=f"mend that, and say it again: {hints}")
        names = _differing(facts, bundle)
        return Seen(facts, read_files(node, connection, inventory.cluster, facts.generation, names))

    return fleet.each(Phase.OBSERVE, (*wanted.bundles, *wanted.departed), task)


def _differing(facts: Facts, bundle: Bundle | None) -> tuple[str, ...]:
    """Files of the node's current generation that are not as the bundle has them, or not in it."""
    wanted = bundle.files if bundle else {}
    digests = {name: hashlib.sha256(content).hexdigest() for name, content in wanted.items()}
    return tuple(name for name, digest in facts.digests.items() if digest != digests.get(name))
