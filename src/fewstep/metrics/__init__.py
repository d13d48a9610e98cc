"""Metrics: pure functions of arrays. No files here but Inception's published weights, no experiments."""
