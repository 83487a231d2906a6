"""claude-bottle: many Claude Code agents at once, each in an isolated bottle."""

__version__ = "0.1.0"
