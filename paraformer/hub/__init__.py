"""Names become model directories: a path, a bundled model, a cache, a download.

Imports: the ground floor.
"""
