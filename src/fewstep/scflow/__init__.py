"""Self-corrected flow distillation (SCFlow, arXiv 2412.16906): one student, good at one step and consistent at few.

border.py    where SCFlow's time, noise at 1, becomes the house's, noise at 0; nowhere else
losses.py    the four losses and the discriminator's, as the paper writes them
settings.py  what params.yaml may say of them

fewstep.loops.scflow trains with them.
"""
