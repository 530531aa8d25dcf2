"""Trust in a test's certificate authority."""

from pathlib import Path

import aiohttp.connector


def trust_in_aiohttp(ca_file: Path) -> None:
    """Let aiohttp in this process trust the authorities of a PEM file.

    aiohttp makes its TLS context at import, before a test sets SSL_CERT_FILE, and offers no public way to change it.
    """
    aiohttp.connector._SSL_CONTEXT_VERIFIED.load_verify_locations(ca_file)
