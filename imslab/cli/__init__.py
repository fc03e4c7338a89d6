"""The command line. Heavy imports stay inside the commands that need them."""
