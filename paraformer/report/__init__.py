"""Pages and pictures to look at: errors of recognition, an alignment.

Imports: the ground floor, data.inputs, data.text, decode, models, nn.
"""
