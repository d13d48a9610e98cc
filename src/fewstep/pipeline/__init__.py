"""How the work is run: notebooks as stages, what each depends on, how long they took, and what is published.
No mathematics.
"""
