"""Errors that a user can mend: each message names the input and the remedy.

Everything below `vivant` raises these for bad input; programs turn them into one line and exit code 2.
Bugs stay ordinary exceptions and are never caught.
"""


class VivantError(Exception):
    """Base of all errors that are not bugs. The message says, briefly, what is wrong and what to do."""


class InputError(VivantError):
    """A file, option or picture given by the user cannot be used."""


class CheckpointError(VivantError):
    """A weights file is missing, incomplete, of the wrong shape, unsafe to open, or something else."""


class FaceError(InputError):
    """No usable face where one is needed."""


class SetupError(VivantError):
    """Something that should be installed is not (a package, a system program, face models)."""
