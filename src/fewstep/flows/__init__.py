"""Flow maps X_{s,t}(x) = x + (t - s) v_{s,t}(x): interpolants, laws of (s, t), samplers, guidance, and what is known exactly.

Noise is at time 0, data at time 1. Networks and data sets are none of this room's business.
"""
