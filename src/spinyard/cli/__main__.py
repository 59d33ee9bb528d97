"""`python -m spinyard.cli`."""

import sys

from spinyard.cli import main

sys.exit(main())
