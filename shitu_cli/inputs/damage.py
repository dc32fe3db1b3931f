"""What libraries raise for damaged bytes; whoever reads a file with one turns it into an error that names the file."""

from __future__ import annotations

import struct
import zipfile
import zlib

# Of zipfile, numpy and pyarrow, on any bytes: an entry without a name is an IndexError, for instance.
DAMAGE = (
    *(zipfile.BadZipFile, zlib.error, struct.error, OSError, EOFError),
    *(RuntimeError, ValueError, LookupError, OverflowError),
)
