"""The synchronous client of the HTTP API (docs/api.md), over the standard library."""

from spinyard.client.client import Client
from spinyard.client.home import ServerFile, from_home, read_server_file
from spinyard.client.sse import SentEvent
from spinyard.client.transport import Address

__all__ = ["Address", "Client", "SentEvent", "ServerFile", "from_home", "read_server_file"]
