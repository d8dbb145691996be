"""One architecture a file; a released directory becomes a model, and a model such a directory.

Imports: the ground floor, data.corpus, data.features, data.text, nn.
"""
