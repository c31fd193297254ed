"""What an error says, and where it came from."""


def reason(error: BaseException) -> str:
    """The text of an error; its class if it has none, as `trio.TooSlowError`."""
    return str(error) or type(error).__name__


def first_cause(error: BaseException) -> BaseException:
    """The first error inside exception groups, which nurseries wrap around any error."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
