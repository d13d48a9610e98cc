"""Flow maps X_{s,t}(x) = x + (t - s) v_{s,t}(x): interpolants, times, samplers, guidance, exact flows.

Noise is at time 0, data at time 1. Networks and data sets never stand here.
"""
