"""`make gpu`: the tests marked `cuda`, what a training step costs, two experiments beside the CPU's cells.

Nothing here has run on a GPU yet; `make gpu DEVICE=cpu` runs the same code in small.
"""
