"""What lies on disk, without what a tensor means: files, checkpoints, paths, progress, fingerprints."""
