"""A module beside the tasks: it has to be there on the node, too."""

GREETING = "good morning"
