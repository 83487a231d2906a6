"""`python -m claude_bottle`"""

from claude_bottle.cli import console

console()
