"""The domain of Call Keeper. It knows nothing of Azure Functions."""

from pathlib import Path

VERSION = "0.1.0"
_ID = Path(__file__).with_name("build.txt")  # make package writes it into the package
BUILD = (
    _ID.read_text(encoding="ascii").strip() if _ID.is_file() else None
)  # read when this code is loaded, as it names it
