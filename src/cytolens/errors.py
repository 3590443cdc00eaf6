"""The few kinds of error a user can meet; each message says what came, what is allowed, what to do.

The command line prints the message on one line and leaves with exit code 2.
"""


class CytolensError(Exception):
    """Anything the user can mend: bad input, a bad setting, a missing extra."""


class InputError(CytolensError):
    """The images, labels or manifest handed in cannot be used as they are."""


class SettingError(CytolensError):
    """A setting is outside of what is allowed, or a name is unknown."""


class ModelError(CytolensError):
    """The network handed in cannot be used: wrong shape, unsafe file, no layers."""


class RunError(CytolensError):
    """The run folder is missing, of another version, or lacks a stage."""


class DamagedError(RunError):
    """A stored result is damaged or lacks a part.

    ``stage`` is the one to make again; None where the run as a whole is damaged.
    """

    def __init__(self, problem: str, stage: str | None = None) -> None:
        super().__init__(problem)
        self.stage = stage


class MissingExtra(CytolensError):
    """An optional library is not installed."""

    def __init__(self, feature: str, extra: str) -> None:
        super().__init__(f"{feature} needs an extra: pip install 'cytolens[{extra}]'")


def choose(kind: str, name: str, known: list[str] | tuple[str, ...]) -> str:
    """The entry of ``known`` that ``name`` stands for: itself, or any unambiguous part of it.

    Matching ignores case. Raises SettingError, listing what is known, when nothing or more
    than one entry matches.

    >>> choose("channel", "dna", ("brightfield", "DNA_PI"))
    'DNA_PI'
    """
    if name in known:
        return name
    exact = [entry for entry in known if entry.lower() == name.lower()]
    found = exact or [entry for entry in known if name.lower() in entry.lower()]
    if len(found) == 1:
        return found[0]
    problem = "is ambiguous" if found else "is unknown"
    raise SettingError(f"{kind} '{name}' {problem}; choose one of: {', '.join(found or known)}")
