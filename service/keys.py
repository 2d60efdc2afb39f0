"""python -m service.keys: make, list and revoke API keys (service.auth.keys)."""

import sys

from service.auth.keys import main

if __name__ == "__main__":
    sys.exit(main())
