"""Shipped network weights (safetensors) with their cards."""
