"""For all tests: the signals that a terminal would deliver are heard, whoever started the run."""

import signal

# A run that was put into the background ignores Ctrl-C, and every program that it starts inherits that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
