"""Training: a job and its exact resumption, the loops, optimisers, precision and processes; and what is prepared beforehand,
the classifier, the probe, the autoencoder, its latents and the CLIP. Neither plots nor tables.
"""
