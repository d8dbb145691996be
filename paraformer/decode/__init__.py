"""The output of networks becomes text, times, marks, segments, speakers.

Imports: the ground floor, backends, data.audio, data.corpus, data.features, data.inputs,
data.text.
"""
