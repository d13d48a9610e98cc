"""The schema of params.yaml, a file a section, and how it is read and resolved. Nothing here computes."""
