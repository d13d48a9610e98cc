"""Flow maps, interpolants, times, samplers, guidance, exact flows. No networks and no data sets here."""
