"""Samples become what an encoder reads: filter banks, low frame rate, CMVN; whole or in pieces.

Imports: the ground floor, data.corpus.
"""
