"""Routes, one module per noun; `server.app` puts them together."""
