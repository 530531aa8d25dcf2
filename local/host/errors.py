"""The one error of the local host: what went wrong and what to do, in one line."""


class HostError(Exception):
    """The host cannot run this app. The message is one line and says what to do about it.

    `detail` is more to read for those who ask for it (`--verbose`): the traceback of the app's import.
    """

    def __init__(self, message: str, *, detail: str = "") -> None:
        super().__init__(message)
        self.detail = detail
