"""Submits to a peer; started with the Python of the peers' environment, which has no jobrunner.

Obeys orders: a line of JSON comes in, [name, number], and goes out again with when it began and what was found.
"""

import importlib
import json
import sys
import time


def main(module: str) -> None:
    orders = importlib.import_module(module).ORDERS
    print("ready", flush=True)
    for line in sys.stdin:
        name, number = json.loads(line)
        began_at = time.monotonic()
        print(json.dumps([began_at, orders[name](number)]), flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
