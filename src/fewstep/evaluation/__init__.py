"""From trained flow maps to evidence: samples, measures, tables, published numbers, claims and their provenance; `plots/` draws
them. Nothing is trained here.
"""
