"""The configurations of the programs, read by Hydra. No code.

Imports: nothing of ours.
"""
