"""Where people and machines come in: the command line and the gateway."""
