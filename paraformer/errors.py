"""What can go wrong through no fault of the program: each error is one line, `where: what;
remedy`.
"""


class ParaformerError(Exception):
    """Base of all errors that a user can cause and mend; the commands print it and exit with 1."""


class ConfigError(ParaformerError):
    """An option or a configuration file is wrong."""


class DataError(ParaformerError):
    """A list, a data directory or a text is wrong."""


class AudioError(ParaformerError):
    """An audio input cannot be read or holds no usable samples."""


class CheckpointError(ParaformerError):
    """A model directory is incomplete or does not fit its configuration."""


class DownloadError(CheckpointError):
    """A model cannot be fetched from its hub."""
