"""torch's error for a full GPU: a RuntimeError, under two names."""


class OutOfMemoryError(RuntimeError):
    pass
