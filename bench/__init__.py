"""Measurements of the product: what it costs, and what happens to packets while things break."""
