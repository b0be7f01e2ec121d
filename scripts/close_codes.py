"""Opens sockets, says so, and prints with which code each was closed, one a line; 1006 where the connection ended without one.

    close_codes.py URL COUNT    http://localhost:8080/ws?token=… 4
"""

import base64
import os
import socket
import sys
import threading
import urllib.parse


class Socket:
    """A client of RFC 6455 that answers pings and the close frame."""

    def __init__(self, url):
        self.connection = socket.create_connection((url.hostname, url.port or 80), timeout=60)
        self.stream = self.connection.makefile("rb")
        key = base64.b64encode(os.urandom(16)).decode()
        self.connection.sendall(
            f"GET {url.path}?{url.query} HTTP/1.1\r\nHost: {url.netloc}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n\r\n".encode()
        )
        status = self.stream.readline()
        if b" 101 " not in status:
            sys.exit(f"no socket: {status}")
        while self.stream.readline() != b"\r\n":
            pass

    def frame(self):
        """The opcode and the payload of the next frame; no opcode at the end of the connection."""
        head = self.stream.read(2)
        if len(head) < 2:
            return None, b""
        length = head[1] & 0x7F
        if length > 125:
            length = int.from_bytes(self.stream.read(2 if length == 126 else 8), "big")
        return head[0] & 0x0F, self.stream.read(length)

    def send(self, opcode, payload):
        mask = os.urandom(4)
        masked = bytes(byte ^ mask[place % 4] for place, byte in enumerate(payload))
        self.connection.sendall(bytes([0x80 | opcode, 0x80 | len(payload)]) + mask + masked)

    def close_code(self):
        try:
            while True:
                opcode, payload = self.frame()
                if opcode is None:
                    return 1006
                if opcode == 9:
                    self.send(10, payload)
                if opcode == 8:
                    self.send(8, payload[:2])
                    return int.from_bytes(payload[:2], "big") or 1005
        except OSError:
            return 1006


def main():
    url, count = urllib.parse.urlsplit(sys.argv[1]), int(sys.argv[2])
    sockets = [Socket(url) for _ in range(count)]
    for each in sockets:
        each.frame()
    print("open", flush=True)
    threads = [threading.Thread(target=lambda each=each: print(f"{each.close_code()}\n", end="", flush=True)) for each in sockets]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


if __name__ == "__main__":
    main()
