"""Batching to memory, progress, checkpoint and resume."""
