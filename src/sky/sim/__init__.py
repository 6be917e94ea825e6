"""A world to try the control plane in; so far the kits that hold adapters to their contracts. See README.md."""
