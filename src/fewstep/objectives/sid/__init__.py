r"""Score identity distillation: one-step samples of the teacher's law, without data (SiD, arXiv 2404.04057).

$$ (D_b - D_f) \cdot [(D_b - x) - \alpha (D_b - D_f)] \, / \, \mathrm{sg} \, \overline{|x - D_b|},
\quad x = X_{0,1}(x_0), \; D_v(I_t) = I_t + (1-t)\, v_{t,t}(I_t), \; I_t = (1-t) x_0' + t x $$

Not an objective of `terms`: f, the velocity of what the student draws, is a second network that learns beside
it, by `si` on couples of noise and samples.
"""
