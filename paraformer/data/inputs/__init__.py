"""What a user may point at: files, folders, lists, pieces of a stream, lists of other toolkits.

Imports: the ground floor, data.audio, data.corpus, data.text.
"""
