"""Call Keeper without its HTTP routes. Nothing here knows Azure Functions."""

from pathlib import Path

VERSION = "0.1.0"
_BUILD_FILE = Path(__file__).with_name("build.txt")  # `make package` writes it into the package
# Read at import, so that it names the code that runs, even if the files are replaced later.
BUILD = _BUILD_FILE.read_text(encoding="ascii").strip() if _BUILD_FILE.is_file() else None
