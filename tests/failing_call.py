"""A call that fails in another process. It has a file of its own since that process loads all that stands beside it."""


class NotFitToBeSent(RuntimeError):
    """Of two arguments, of which pickle knows one."""

    def __init__(self, what: str, missing: int) -> None:
        super().__init__(what)
        self.missing = missing


def fail(kind: str) -> None:
    raise NotFitToBeSent("7 events were dropped", 7) if kind == "odd" else ValueError("the plain kind")
