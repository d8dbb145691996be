"""A wing of six rooms: corpus, audio, text, features, inputs, batches. Nothing lies in its hall.

Imports: nothing of ours.
"""
