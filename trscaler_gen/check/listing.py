"""Rulesets as a kernel has them: loaded in a throw-away network namespace, and listed as JSON."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

from trscaler_gen.check.run import require_tools, run_sandbox
from trscaler_gen.errors import OperationError

_TOOLS = {"unshare": "util-linux", "mount": "mount", "ip": "iproute2"}


def list_rulesets(rulesets: Mapping[str, bytes], links: Mapping[str, str]) -> dict[str, Any]:
    """Load each node's ruleset, and return what the kernel has then, as ``nft -j list ruleset`` tells it.

    ``links`` names each node's link. Raises OperationError when a ruleset is refused.
    """
    require_tools(_TOOLS)
    jobs = [{"node": node, "link": links[node], "ruleset": text.decode()} for node, text in rulesets.items()]
    workers = min(len(jobs), os.cpu_count() or 1)
    with ThreadPoolExecutor(workers) as pool:
        answers = pool.map(partial(run_sandbox, "lister", ""), [jobs[i::workers] for i in range(workers)])
        found = {answer["node"]: answer for one in answers for answer in one}
    for node in rulesets:
        if found[node]["error"]:
            raise OperationError(
                f"{node}: nft refuses the ruleset: {found[node]['error'].strip()}",
                "trscaler-gen check says more",
            )
    return {node: json.loads(found[node]["listing"]) for node in rulesets}
