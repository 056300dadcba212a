#!/usr/bin/env python3
"""Prints orders as JSON lines: orders.py COUNT. The same count gives the same orders."""

import json
import random
import sys

GOODS = {"coffee": 890, "filter papers": 320, "grinder": 8900, "kettle": 4590, "mug": 1250}


def order(number: int, draw: random.Random) -> dict:
    items = [
        {"what": what, "count": draw.randint(1, 3), "cents": GOODS[what]}
        for what in draw.sample(sorted(GOODS), draw.randint(1, 3))
    ]
    return {
        "order_id": f"order-{number:05}",
        "customer": f"customer-{draw.randint(1, 400):03}",
        "items": items,
        "cents": sum(item["count"] * item["cents"] for item in items),
    }


def main() -> None:
    draw = random.Random(1)
    for number in range(1, int(sys.argv[1]) + 1):
        print(json.dumps(order(number, draw)))


main()
