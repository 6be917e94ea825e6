"""What stands behind the decorator `@sky` in the place where a flow is run; nodes do not need it."""
