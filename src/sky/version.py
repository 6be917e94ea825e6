"""The one place that states the version; read by the build, the client and the server."""

__version__ = "0.1.0.dev0"

#: Version of the HTTP interface between client and server; raised when a message changes its meaning.
API_VERSION = 1
