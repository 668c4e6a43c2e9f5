"""Scores of images and of ensembles."""
