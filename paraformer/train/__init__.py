"""Batches in, weights out: losses, MWER, the training loop, snapshots, ranks.

Imports: the ground floor, data.audio, data.batches, data.corpus, data.features, data.text,
decode, models, nn.
"""
