"""The errors a user can meet. Each message is one line: what was wrong, and what to do.

    OrientcError
    ├── UsageError             the request is wrong by itself: rank 0, ratio below 1, an unknown setting
    ├── ModelError             a model or its table can't be read
    │   ├── ModelNotFoundError     no such model, or no way to reach it
    │   ├── NoTableError           the model has no token-embedding table
    │   └── TrustError             reading it would run code or unpickle; the user has to allow that
    ├── DownloadError          a file came incomplete or damaged from the hub
    ├── DeviceError            the device asked for is not there
    ├── FitError               a table can't be compressed as asked: rank above dim, NaN in the table
    ├── ArtifactError          an artifact file is damaged, foreign or too new
    │   └── ArtifactMismatchError  the artifact was made from another model's table
    ├── CalibrationError       a model can't be calibrated as asked, or the file is damaged, foreign or too new
    │   └── CalibrationMismatchError   the calibration was measured on another model's table
    ├── SubstitutionError      this artifact can't be put into this model under this head policy
    ├── ExportError            a model can't be written in this form
    ├── EvaluationError        a model can't be evaluated as asked, or a text is unusable
    ├── RecordError            a record is damaged, foreign or too new
    ├── SweepError             some cells of a sweep failed; the others are done
    ├── GateError              a gate that the caller set is not met
    └── OutputError            a result can't be written, or something else is already there

Each message names fields in backticks, as Python knows them (`keep_rows`); the command line says `--keep-rows` there.

Exit codes of the command line: 0 done, 2 `UsageError`, 3 `GateError`, 1 every other of these (and a file that can't be
read or written, or too little memory), 70 an error that nobody expected, 130 Ctrl-C, 143 SIGTERM.
"""

from __future__ import annotations

BUG = 70  # exit code of an error that is none of these: EX_SOFTWARE of sysexits.h


class OrientcError(Exception):
    """Base of every error orientc raises on purpose."""


class UsageError(OrientcError):
    """The request is wrong by itself, whatever the model."""


class ModelError(OrientcError):
    """A model or its token-embedding table can't be read."""


class ModelNotFoundError(ModelError):
    """There is no such model, or no way to reach it."""


class NoTableError(ModelError):
    """The model has no token-embedding table."""


class TrustError(ModelError):
    """Reading the model would unpickle a file or run its repository's code, and that was not allowed."""


class DownloadError(OrientcError):
    """A file came incomplete or damaged from the hub."""


class DeviceError(OrientcError):
    """The device asked for is not there."""


class FitError(OrientcError):
    """The table can't be compressed as asked."""


class ArtifactError(OrientcError):
    """An artifact file is damaged, foreign, or newer than this version understands."""


class ArtifactMismatchError(ArtifactError):
    """The artifact was made from another model's table."""


class CalibrationError(OrientcError):
    """The model can't be calibrated as asked, or a calibration file is damaged, foreign or too new."""


class CalibrationMismatchError(CalibrationError):
    """The calibration was measured on another model's table."""


class SubstitutionError(OrientcError):
    """The artifact can't be put into the model under this head policy."""


class ExportError(OrientcError):
    """A model can't be written in the form asked for."""


class EvaluationError(OrientcError):
    """The model can't be evaluated as asked, or the text is unusable."""


class RecordError(OrientcError):
    """A record is damaged, foreign, or newer than this version understands."""


class SweepError(OrientcError):
    """Some cells of a sweep failed; the others are done."""


class GateError(OrientcError):
    """A gate that the caller set is not met."""


class OutputError(OrientcError):
    """A result can't be written where it should go."""
