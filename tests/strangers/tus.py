"""tuspy: resumable uploads, cut and resumed."""

import io
import os

from tusclient.client import TusClient

from altinn import AVSENDER, TUS, URL, assert_arrived, headers, initialize, ok
from proxy import Proxy

MIB = 1024 * 1024
# The offset that is told may lag behind what was accepted; Altinn then answers 409, and asking again helps.
PATIENTLY = {"retries": 20, "retry_delay": 0.1}


def uploader(transfer, content, base=TUS, **options):
    client = TusClient(f"{base}/{transfer}", headers=headers(AVSENDER))
    return client.uploader(file_stream=io.BytesIO(content), chunk_size=MIB, **options)


def main():
    content = os.urandom(5 * MIB + 12345)

    transfer = initialize("tuspy.bin", content)
    uploader(transfer, content).upload()
    assert_arrived(transfer, content)
    ok("tuspy uploads in chunks, and the file is published")

    transfer = initialize("tuspy.bin", content)
    # A connection for each request: the creation; a chunk that arrives; one that is cut; the question where to go on;
    # one whose answer is lost.
    proxy = Proxy(URL, [None, None, ("up", 400_000), None, ("answer", 600_000)])
    uploader(transfer, content, TUS.replace(URL, proxy.url), **PATIENTLY).upload()
    assert proxy.happened == 2, proxy.happened
    proxy.close()
    assert_arrived(transfer, content)
    ok("tuspy goes on after a chunk that was cut and an answer that was lost")

    transfer = initialize("tuspy.bin", content)
    first = uploader(transfer, content)
    first.upload(stop_at=2 * MIB)
    assert first.offset == 2 * MIB
    second = uploader(transfer, content, url=first.url, **PATIENTLY)
    second.upload()
    assert_arrived(transfer, content)
    ok("tuspy goes on where another tuspy ended, from nothing but its URL")


main()
