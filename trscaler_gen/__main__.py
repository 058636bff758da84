"""``python -m trscaler_gen``."""

from trscaler_gen.cli import main

main()
