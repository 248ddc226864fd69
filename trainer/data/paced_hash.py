"""A program of its own: prints the sha256 of a file, read at the lowest priority and at a bounded speed.

Apart from the process that trains, so that no lock of the interpreter and no priority of a thread holds that one up.
"""

from __future__ import annotations

import hashlib
import os
import sys
import time

CHUNK = 1 << 20
LOWEST_PRIORITY = 19


def paced_sha256(path: str, bytes_per_second: float) -> str:
    """The sha256 of a file in hexadecimal digits."""
    digest, buffer = hashlib.sha256(), memoryview(bytearray(CHUNK))
    with open(path, "rb", buffering=0) as file:
        began, done = time.monotonic(), 0
        while size := file.readinto(buffer):
            digest.update(buffer[:size])
            done += size
            time.sleep(max(0.0, done / bytes_per_second - (time.monotonic() - began)))
    return digest.hexdigest()


if __name__ == "__main__":
    os.nice(LOWEST_PRIORITY)
    print(paced_sha256(sys.argv[1], float(sys.argv[2])))
