"""Pieces, spaces and normalisation: what needs no sound."""
