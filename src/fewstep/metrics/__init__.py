"""Metrics: each a pure function with the protocol that its numbers are measured by."""
