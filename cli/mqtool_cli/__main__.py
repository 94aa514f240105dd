"""``python -m mqtool_cli`` is ``mqtool``."""

from mqtool_cli.main import main

main()
