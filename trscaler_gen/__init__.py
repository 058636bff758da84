"""Compile one inventory into a shared-address cluster, and deploy it."""

__version__ = "0.1.0"
