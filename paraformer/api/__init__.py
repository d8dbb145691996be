"""AutoModel and its tasks: speech, VAD, punctuation, speakers, forced alignment; live sessions
and worker processes. From an item to a result, its key and state with it.

Imports: the ground floor, backends, data.audio, data.corpus, data.inputs, data.text, decode,
export, hub, models, output.
"""
