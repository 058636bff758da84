"""The inventory: the one file that a user writes."""

from trscaler_gen.inventory.load import load_inventory, parse_inventory
from trscaler_gen.inventory.model import Hash, Health, Heartbeat, Inventory, Mac, Node, Ssh

__all__ = [
    "Hash",
    "Health",
    "Heartbeat",
    "Inventory",
    "Mac",
    "Node",
    "Ssh",
    "load_inventory",
    "parse_inventory",
]
