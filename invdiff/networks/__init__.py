"""Network backbones: maps from a noisy image and a noise level to a raw output, with no idea of priors."""
