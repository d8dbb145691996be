"""The `funasr` command: arguments, what is shown, doctor, completion; how every command begins
and ends.

Imports: the ground floor, api, backends, data.audio, data.inputs, decode, hub, models,
output, server.
"""
