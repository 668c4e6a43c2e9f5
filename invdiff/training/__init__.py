"""Training of shipped and own priors."""
