"""The error of the local host."""


class HostError(Exception):
    """The host cannot run this app. The message is one line and says what to do.

    `detail` is the traceback of the app's import, which `--verbose` prints.
    """

    def __init__(self, message: str, *, detail: str = "") -> None:
        super().__init__(message)
        self.detail = detail
