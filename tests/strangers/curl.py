"""curl: uploads, and resumes a download that was cut."""

import os
import pathlib
import subprocess

from altinn import API, AVSENDER, MOTTAKER, URL, assert_arrived, headers, initialize, ok
from proxy import Proxy

WORK = pathlib.Path(os.environ["WORK"])


def curl(party, *arguments):
    authorization = f"Authorization: {headers(party)['Authorization']}"
    return subprocess.run(
        ["curl", "--no-progress-meter", "-H", authorization, *arguments], capture_output=True, check=False, timeout=30
    )


def main():
    content = os.urandom(3_000_000)
    sent, received = WORK / "sent", WORK / "received"
    sent.write_bytes(content)
    received.unlink(missing_ok=True)
    transfer = initialize("from-curl.bin", content)
    octets = ["-H", "Content-Type: application/octet-stream", "--data-binary", f"@{sent}"]
    done = curl(AVSENDER, "--fail-with-body", f"{API}/{transfer}/upload", *octets)
    assert done.returncode == 0, done
    assert_arrived(transfer, content)
    ok("curl uploads, and the file is published")

    chunked = initialize("from-curl.bin", content)
    done = curl(AVSENDER, "--fail-with-body", f"{API}/{chunked}/upload", *octets, "-H", "Transfer-Encoding: chunked")
    assert done.returncode == 0, done
    assert_arrived(chunked, content)
    ok("curl uploads in chunks, and the file is published")

    # Three cuts, then nothing in the way.
    proxy = Proxy(URL, [("down", 1_000_000), ("down", 700_000), ("down", 500_000)])
    address = f"{API}/{transfer}/download".replace(URL, proxy.url)
    sizes = []
    for _ in range(3):
        cut = curl(MOTTAKER, "-C", "-", "-o", received, address)
        assert cut.returncode in (18, 56), cut
        sizes.append(received.stat().st_size)
    assert 0 < sizes[0] < sizes[1] < sizes[2] < len(content), sizes
    done = curl(MOTTAKER, "-C", "-", "-o", received, address)
    proxy.close()
    assert done.returncode == 0, done
    assert received.read_bytes() == content
    ok(f"curl resumes a download that was cut at {', '.join(map(str, sizes))} bytes of {len(content)}")


main()
