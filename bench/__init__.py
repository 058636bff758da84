"""Measurements of the product: what it costs, and what happens to packets while things break."""

import sys
from pathlib import Path

# The clusters and events are those of the end-to-end tests, under the names that pytest gives them.
sys.path.append(str(Path(__file__).parent.parent / "tests"))
