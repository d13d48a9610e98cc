"""Self-corrected flow distillation (SCFlow, arXiv 2412.16906): good at one step, consistent at few.

losses.py         the four losses and the discriminator's, as the paper writes them
reversed_time.py  SCFlow's time, noise at 1, and this library's, noise at 0; converted nowhere else

fewstep.training.loops.scflow trains with them.
"""
