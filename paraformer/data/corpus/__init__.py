"""Kaldi tables and data directories: reading, checking, mending, ids, archives, ctm. No torch.

Imports: the ground floor.
"""
