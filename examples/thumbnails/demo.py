"""A bounded work queue at work, from nothing to a report: makes photographs, submits them faster than they can be done,
kills a worker in the middle, and accounts for every one.

    python examples/thumbnails/demo.py            # on the broker of MQTOOL_URL, or else on a private one
"""

from __future__ import annotations

import sys


def main() -> int:
    """Run it; the exit code is mqtool's: 0 done, 1 failed, 69 no broker, 77 no permission."""
    try:
        import show  # takes a moment (Pillow, pydantic, rich), in which Ctrl-C is to be as quiet as later
    except KeyboardInterrupt:
        return 130
    except ModuleNotFoundError as missing:
        if missing.name != "PIL":
            raise
        print("demo: Pillow is not installed; run: python -m pip install 'pillow>=11'", file=sys.stderr)
        return 1
    return show.main()


if __name__ == "__main__":
    sys.exit(main())
