"""The private development broker of ``mqtool broker``."""
