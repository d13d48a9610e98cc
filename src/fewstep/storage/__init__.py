"""What lies on disk, without its meaning: atomic files, checkpoints, arrays filled in blocks, the workspace's
paths, progress, fingerprints, and the mark of stand-in data. Nothing here knows what a tensor means.
"""
