"""Commands on a node over SSH; the only package that imports paramiko.

``resolve`` turns what the inventory and ssh_config say into a ``Target``; ``connect`` turns a target into a
``Connection``; ``Connection.run`` runs one command under a deadline. Host keys are verified always.
"""

from trscaler_gen.transport.command import OUTPUT_LIMIT_BYTES, Completed, harmless
from trscaler_gen.transport.connection import Connection, connect
from trscaler_gen.transport.target import Target, resolve

__all__ = ["OUTPUT_LIMIT_BYTES", "Completed", "Connection", "Target", "connect", "harmless", "resolve"]
