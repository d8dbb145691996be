"""A result and what becomes of it: dicts, tables, timed files, subtitle lines, resumed runs.

Imports: the ground floor, data.audio, data.corpus, data.inputs, data.text, decode.
"""
