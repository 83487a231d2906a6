"""`python -m claude_bottle`"""

import sys

from claude_bottle.cli import main

sys.exit(main())
