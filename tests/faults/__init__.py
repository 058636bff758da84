"""A cluster under faults at random, and what must hold whatever happens: see docs/faults.md."""
