"""Text that may be shown or logged: keys, webhook secrets, passwords in URLs and signed links taken out of it.

Nothing of ours puts them into a log line; this is for what others do, such as a caller who sends a key as part of a
path.
"""

from __future__ import annotations

import re

_HIDDEN = "…"
_PATTERNS = (
    (re.compile(r"\b(ibk_|whsec_)[A-Za-z0-9_+/=-]+"), rf"\1{_HIDDEN}"),
    (re.compile(r"(/objects/)[A-Za-z0-9_.%-]+"), rf"\1{_HIDDEN}"),
    (re.compile(r"(?i)\b((?:x-amz-(?:signature|credential|security-token)|password)=)[^&\s\"']+"), rf"\1{_HIDDEN}"),
    # Up to the last @ before the next blank: a password need not be quoted as it should be.
    (re.compile(r"(://[^\s:/?#@]*):\S*@"), rf"\1:{_HIDDEN}@"),
)


def redacted(text: str) -> str:
    """Return the text without the secrets in it. What is left out shows as `…`."""
    for pattern, replacement in _PATTERNS:
        text = pattern.sub(replacement, text)
    return text
