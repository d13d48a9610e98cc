"""Tests marked `cuda`: on the device of `--device`, against the CPU in double precision where that can be.

With `--device cpu`, as in `make test`, the same bodies compare single precision with double on the CPU, so
that they are known to run. None of them has run on a GPU yet.
"""
