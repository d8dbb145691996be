"""A network on a device in a number format, behind one face for all that listen with it.

Imports: the ground floor, models, nn.
"""
