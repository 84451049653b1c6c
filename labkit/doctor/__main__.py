"""python -m labkit.doctor"""

import sys

from labkit.doctor import main

sys.exit(main())
