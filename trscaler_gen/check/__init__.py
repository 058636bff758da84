"""Give every file of a build to the real nft and keepalived, in a throw-away network namespace."""

from trscaler_gen.check.run import Finding, check_bundles

__all__ = ["Finding", "check_bundles"]
