"""Tokenizers, lexicon, words, syllables, n-grams, and the units that error rates count.

Imports: the ground floor, data.corpus.
"""
