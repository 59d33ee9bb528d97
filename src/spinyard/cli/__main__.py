"""`python -m spinyard.cli`."""

import sys

from spinyard.cli.app import main

sys.exit(main())
