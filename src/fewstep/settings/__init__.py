"""The schema of params.yaml, a file a section: frozen, typed, closed to unknown keys. Nothing here computes."""
