"""The programs that `bin/*.py` and `funasr-*` run, one a file, and modules that several share.

Imports: the ground floor, api, backends, cli, data.audio, data.batches, data.corpus,
data.features, data.inputs, data.text, decode, hub, models, output, report, train.
"""
