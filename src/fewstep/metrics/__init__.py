"""Metrics: pure functions of arrays, each with the protocol that its numbers are measured by.

Files, experiments and tables never stand here; the one file that is read is Inception's published weights.
"""
