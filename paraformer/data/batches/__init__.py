"""Utterances of a corpus become training batches: selection, shards, augmentation, order.

Imports: the ground floor, data.audio, data.corpus, data.features, data.inputs, data.text.
"""
