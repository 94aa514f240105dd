"""The command line of mqtool."""
