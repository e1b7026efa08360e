"""Activations become sparse codes: architectures, kernels, training, measured quality, files."""
