"""``invdiff molecule run``: from a configuration to a folder of samples, free energies and figures."""
