"""The control plane as a process: who is asking, what they ask, and the answer."""
