"""Redaction of secrets in the logs of a stage."""

from __future__ import annotations

import logging
import re

_SIGNED = re.compile(r"(https?://[^\s?'\"]+)\?[^\s'\"]+")
"""Addresses with parameters: those of the Hub's storage hold signatures that let anyone write for an hour."""


def keep_out_of_logs(secret: str) -> None:
    """Let no handler of the root logger write a secret or the parameters of an address, tracebacks included."""

    def redact(record: logging.LogRecord) -> bool:
        text = record.getMessage().replace(secret, "[secret]")
        record.msg, record.args = _SIGNED.sub(r"\1?[…]", text), ()
        record.exc_info = record.exc_text = None
        return True

    for handler in logging.getLogger().handlers:
        handler.addFilter(redact)
