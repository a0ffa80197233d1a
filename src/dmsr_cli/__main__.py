"""`python -m dmsr_cli` is the `dmsr` command."""

import sys

from dmsr_cli.cli.main import main

sys.exit(main())
