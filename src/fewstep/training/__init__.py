"""Training: one job and its exact resumption, the loops, optimisers, precision, several processes; and what
is prepared for the experiments: features, autoencoder, latents, CLIP. No plots and no tables of results.
"""
