"""The blocking publisher, for programs without asyncio."""

from mqtool.sync.publisher import Publisher

__all__ = ["Publisher"]
