"""The inventory: the one file that a user writes."""

from trscaler_gen.inventory.model import Health, Inventory, Node

__all__ = ["Health", "Inventory", "Node"]
