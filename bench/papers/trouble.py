"""What the user has to see to."""


class Trouble(RuntimeError):
    """Something that the user has to see to; its text says what."""
