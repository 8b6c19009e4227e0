"""A TCP proxy on loopback that cuts connections."""

import contextlib
import socket
import threading


class Proxy:
    """Passes on what comes; the first connections are cut after so many bytes, up or down."""

    def __init__(self, url, cuts):
        """`cuts` are pairs ("up" or "down", bytes), one for each of the first connections; None for no cut."""
        scheme, _, host = url.partition("://")
        name, _, port = host.partition(":")
        self._target = (name, int(port))
        self._cuts = iter(cuts)
        self.happened = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"{scheme}://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                far = socket.create_connection(self._target)
                direction, limit = next(self._cuts, None) or (None, None)
                for way, source, sink in [("up", near, far), ("down", far, near)]:
                    bound = limit if way == direction else None
                    threading.Thread(target=self._pass, args=(source, sink, bound), daemon=True).start()

    def _pass(self, source, sink, limit):
        with contextlib.suppress(OSError):
            while block := source.recv(65536 if limit is None else min(limit, 65536)):
                sink.sendall(block)
                if limit is not None:
                    limit -= len(block)
                    if limit == 0:
                        self.happened += 1
                        break
            if limit is None:
                # The end of one direction; the other may go on.
                sink.shutdown(socket.SHUT_WR)
                return
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()

    def close(self):
        self._listener.close()
