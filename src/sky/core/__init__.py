"""The pure heart: what things are, which offer to take, what happens next. It touches nothing."""
