"""What a Content-Security-Policy says of the pages that this program writes and serves."""

from __future__ import annotations

import base64
import hashlib


def source_of(text: str) -> str:
    """Return the source expression that lets a browser run or apply exactly this script or style."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
