"""A model of leases, heartbeats and clocks: what can happen, and for how long at most."""
