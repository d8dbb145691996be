"""A file, bytes, an address, a command or an array becomes samples: readers side by side.

Imports: the ground floor, data.corpus.
"""
