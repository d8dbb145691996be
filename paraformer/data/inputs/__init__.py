"""Finds what a user points at: files, folders, lists, pieces of a stream, other toolkits' lists.

Imports: the ground floor, data.audio, data.corpus.
"""
