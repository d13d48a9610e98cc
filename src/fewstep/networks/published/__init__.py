"""Converters of published weights: names and shapes held against a network's, nothing unpickled but by torch's safe loader."""
