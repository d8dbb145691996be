"""Pages and pictures to look at: errors of recognition, an alignment, turns.

Imports: the ground floor, backends, data.features, data.inputs, data.text, decode.
"""
