"""Self-corrected flow distillation (SCFlow, arXiv 2412.16906): one student, good at one step and consistent at few.

losses.py         the four losses and the discriminator's, as the paper writes them
reversed_time.py  where SCFlow's time, noise at 1, becomes this library's, noise at 0; nowhere else

fewstep.training.loops.scflow trains with them.
"""
