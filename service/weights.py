"""python -m service.weights: fetch the face finder's weights (service.faces.weights)."""

import sys

from service.faces.weights import main

if __name__ == "__main__":
    sys.exit(main())
