"""Self-corrected flow distillation (SCFlow, arXiv 2412.16906): its losses and its time, noise at 1."""
