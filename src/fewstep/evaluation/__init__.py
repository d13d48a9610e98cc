"""From trained flow maps to evidence: samples, metrics, tables, published numbers, claims and `plots/`."""
