"""Visitors of HOST: RATE requests a second through the gateway, until it is ended. Each of them says who it is."""

import http.client
import itertools
import os
import threading
import time

ADDRESS = os.environ.get("GATEWAY", "127.0.0.1:8080")
HOST = os.environ["HOST"]
RATE = float(os.environ.get("RATE", "50"))
VISITORS = 10
counts = {}


def visit(number):
    connection = http.client.HTTPConnection(ADDRESS, timeout=10)
    for turn in itertools.count():
        time.sleep(VISITORS / RATE)
        try:
            connection.request("GET", "/", headers={"Host": HOST, "x-user": f"{number}-{turn % 100}"})
            answer = connection.getresponse()
            answer.read()
            told = answer.status
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            told = type(error).__name__
        counts[told] = counts.get(told, 0) + 1


for number in range(VISITORS):
    threading.Thread(target=visit, args=(number,), daemon=True).start()
while True:
    time.sleep(10)
    print(dict(counts), flush=True)
