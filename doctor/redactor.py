"""The redactor, which replaces secrets in every text before the doctor prints it."""

import re
from collections.abc import Iterable, Mapping

_SECRET_NAME = re.compile(r"secret|password|passwd|key|token|connection|sas|header|storage$", re.IGNORECASE)
_SECRET_PARTS = re.compile(
    r"(?:AccountKey|SharedAccessSignature|SharedAccessKey|InstrumentationKey)=([^;]+)", re.IGNORECASE
)
_TOKEN = re.compile(r"eyJ[\w-]{8,}\.[\w-]+(?:\.[\w-]*)?|whsec_[\w+/=]+")  # JWTs, and secrets of Standard Webhooks
_MIN_SECRET_LENGTH = 6  # characters; a shorter value is an ordinary word and would match in many texts
_PUBLIC_VALUES = {"usedevelopmentstorage=true", "managedidentity"}


class Redactor:
    """Replaces each value that may be secret by `…`."""

    def __init__(self, settings: Mapping[str, str]) -> None:
        self._secrets = sorted(set(_secrets(settings)), key=len, reverse=True)

    def redact(self, text: str) -> str:
        """Return the text without secrets of the settings, without tokens, and without secrets for signatures."""
        for value in self._secrets:
            text = text.replace(value, "…")
        return _TOKEN.sub("…", text)


def _secrets(settings: Mapping[str, str]) -> Iterable[str]:
    for name, value in settings.items():
        yield from (part for part in _SECRET_PARTS.findall(value) if len(part) >= _MIN_SECRET_LENGTH)
        if _SECRET_NAME.search(name) and len(value) >= _MIN_SECRET_LENGTH and value.lower() not in _PUBLIC_VALUES:
            yield value
