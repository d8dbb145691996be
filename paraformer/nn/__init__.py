"""Building blocks of networks, each idea once, in torch alone.

Imports: the ground floor.
"""
