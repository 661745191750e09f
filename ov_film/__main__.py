"""`python -m ov_film`."""

import sys

from .cli import main

sys.exit(main())
