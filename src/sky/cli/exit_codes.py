"""What the number at the end of a `sky` command means; every command ends through one of these, see README."""

#: The command did what it was asked.
OK = 0
#: It failed, and the reason is on stderr. Also: some of several targets failed.
ERROR = 1
#: The command line itself was wrong; nothing was sent anywhere.
USAGE = 2

# Commands that follow a job (`launch`, `exec`, `logs`) end with the outcome of the job.
# They repeat `sky.core.errors.JobExitCode`, which tests hold them to; the shell should not load that tree to exit.
JOB_FAILED = 100
JOB_NOT_FINISHED = 101
JOB_NOT_FOUND = 102
JOB_CANCELLED = 103

#: Ctrl-C (128 + SIGINT). What was already submitted goes on; the last lines on stderr say how to follow or cancel it.
INTERRUPTED = 130
#: The reader of the output went away (128 + SIGPIPE), as in `sky status | head -1`.
PIPE_CLOSED = 141
