"""No value that may be secret leaves the doctor: a last look at every text before it is printed."""

import re
from collections.abc import Iterable, Mapping

_SECRET_NAME = re.compile(r"secret|password|passwd|key|token|connection|sas|header|storage$", re.IGNORECASE)
_PARTS = re.compile(r"(?:AccountKey|SharedAccessSignature|SharedAccessKey|InstrumentationKey)=([^;]+)", re.IGNORECASE)
_JWT = re.compile(r"eyJ[\w-]{8,}\.[\w-]+(?:\.[\w-]*)?")
_SHORTEST = 6  # characters: what is shorter is a word, and would be found everywhere
_PLAIN = {"usedevelopmentstorage=true", "managedidentity"}


class Veil:
    """Replaces every value that may be secret by `…`."""

    def __init__(self, settings: Mapping[str, str]) -> None:
        self._hidden = sorted(set(_secrets(settings)), key=len, reverse=True)

    def over(self, text: str) -> str:
        """The text without them."""
        for value in self._hidden:
            text = text.replace(value, "…")
        return _JWT.sub("…", text)


def _secrets(settings: Mapping[str, str]) -> Iterable[str]:
    for name, value in settings.items():
        yield from (part for part in _PARTS.findall(value) if len(part) >= _SHORTEST)
        if _SECRET_NAME.search(name) and len(value) >= _SHORTEST and value.lower() not in _PLAIN:
            yield value
