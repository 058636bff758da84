"""Commands on a node over SSH; the only package that imports paramiko.

``resolve`` turns what the inventory and ssh_config say into a ``Target``; ``connect`` turns a target into a
``Connection``; ``Connection.run`` runs one command under a deadline, ``fetch`` reads its output as it is, and
``start`` gives a ``Session`` with one that lives on. Host keys are verified always.
"""

from trscaler_gen.transport.command import OUTPUT_LIMIT_BYTES, Completed, harmless
from trscaler_gen.transport.connection import Connection, connect
from trscaler_gen.transport.session import Session
from trscaler_gen.transport.target import Target, resolve

__all__ = [
    "OUTPUT_LIMIT_BYTES",
    "Completed",
    "Connection",
    "Session",
    "Target",
    "connect",
    "harmless",
    "resolve",
]
