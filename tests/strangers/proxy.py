"""A TCP proxy on loopback that cuts connections."""

import contextlib
import socket
import threading


class Proxy:
    """Passes on what comes; the first connections are cut after so many bytes, up or down."""

    def __init__(self, url, cuts):
        """`cuts` are pairs, one for each of the first connections; None for no cut.

        ("up", n) and ("down", n) cut after n bytes in that direction; ("answer", n) lets all go up, and cuts before
        the first that comes down after n bytes went up.
        """
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
                connection = Connection(self, near, socket.create_connection(self._target), next(self._cuts, None))
                for way in ("up", "down"):
                    threading.Thread(target=connection.carry, args=(way,), daemon=True).start()

    def close(self):
        self._listener.close()


class Connection:
    """One connection that is passed on."""

    def __init__(self, proxy, near, far, cut):
        self._proxy, self._ends, self._cut = proxy, (near, far), cut or (None, 0)
        self._passed = {"up": 0, "down": 0}

    def carry(self, way):
        """Passes on what goes this way, until it ends or is cut."""
        source, sink = self._ends if way == "up" else reversed(self._ends)
        kind, limit = self._cut
        with contextlib.suppress(OSError):
            while block := source.recv(65536):
                if way == "down" and kind == "answer" and self._passed["up"] >= limit:
                    return self._end()
                if way == kind:
                    block = block[: limit - self._passed[way]]
                sink.sendall(block)
                self._passed[way] += len(block)
                if way == kind and self._passed[way] == limit:
                    return self._end()
            # The end of one direction; the other may go on.
            sink.shutdown(socket.SHUT_WR)

    def _end(self):
        self._proxy.happened += 1
        for end in self._ends:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()
