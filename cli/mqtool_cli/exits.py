"""The exit codes of mqtool, in one table. Scripts rely on them.

====  ==========================================================================
code  meaning
====  ==========================================================================
0     done
1     failed
2     wrong usage: an option, an argument, a URL
3     changes are pending
4     needs a decision: ``--yes``, or something exists that would have to be replaced
65    invalid topology or message
69    the broker cannot be reached, or went away
75    busy: try again later
77    no permission
130   interrupted (Ctrl-C)
141   the reader of the output has gone (as SIGPIPE ends other programs)
====  ==========================================================================

65 to 77 are those of ``sysexits.h``.
"""

from __future__ import annotations

from enum import IntEnum

from mqtool import errors


class Code(IntEnum):
    """What a command ends with."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    PENDING = 3
    UNDECIDED = 4
    INVALID = 65
    UNREACHABLE = 69
    BUSY = 75
    NO_PERMISSION = 77
    INTERRUPTED = 130
    READER_GONE = 141


class Undecided(errors.MqtoolError):
    """A person has to say yes first, and there is none to ask."""


class ReaderGone(Exception):
    """Nobody reads the output any more."""


#: The first that fits counts.
_OF_ERRORS: tuple[tuple[type[errors.MqtoolError], Code], ...] = (
    (errors.ConfigurationError, Code.USAGE),
    (errors.TopologyError, Code.INVALID),
    (errors.MessageError, Code.INVALID),
    (errors.Busy, Code.BUSY),
    (errors.Unconfirmed, Code.UNREACHABLE),
    (errors.Unavailable, Code.UNREACHABLE),
    (errors.ChannelLost, Code.UNREACHABLE),
    (errors.AccessRefused, Code.NO_PERMISSION),
    (errors.Conflict, Code.UNDECIDED),
    (Undecided, Code.UNDECIDED),
    (errors.MqtoolError, Code.FAILED),
)


def code_of(error: BaseException) -> Code:
    """The exit code for an error."""
    return next((code for kind, code in _OF_ERRORS if isinstance(error, kind)), Code.FAILED)
