"""Reaches a rented machine: commands, file sync, and the agent's client. Assembled by `sky.server.assembly`."""
