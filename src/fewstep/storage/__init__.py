"""What lies on disk, and nothing of what it means: atomic files, checkpoints, arrays filled in blocks, the workspace's paths,
progress, fingerprints, and the mark of stand-in data. A tensor has no meaning here.
"""
