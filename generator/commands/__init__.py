"""One module per command of `berth`; what is slow to import is imported by the command that needs it."""
