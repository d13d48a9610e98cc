"""From trained flow maps to evidence: samples, metrics, tables, published numbers, claims and `plots/`.

Nothing is trained here.
"""
