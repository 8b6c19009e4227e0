"""Starts a sandbox, plain and with TLS, and lets every client try it: main.py PROGRAM WORK DOCS [write]."""

import json
import os
import pathlib
import signal
import subprocess
import sys
import time

from receiver import make_authority

PROGRAM, WORK, DOCS = sys.argv[1], pathlib.Path(sys.argv[2]), pathlib.Path(sys.argv[3]).resolve()
# In this order; what is simple comes first, so that it is the simple thing that fails.
CHECKS = ["grants.py", "grants.mjs", "curl.py", "tus.py", "tus.mjs"]
# The real one loses an upload for good when a chunk is cut, and no client could show that it goes on. Many checks ask
# more in a minute than it allows.
USUAL = ["--tus-wedge", "0", "--rate-limits", "off"]
# Events can be pulled half a minute after they happened, which would be long to wait for.
FAST = ["--speed", "30", "--rate-limits", "off"]
FAST_CHECKS = ["events.py"]
# As it is when somebody follows the document.
DOCUMENTS = ["documents.py"]
# Of those who receive events where the sandbox has no authority of its own.
AUTHORITY = make_authority(WORK)
# A client that waits for something that never comes is a failure, too.
PATIENCE = 60


class Sandbox:
    """A sandbox that runs until the end of a `with`."""

    def __init__(self, name, *arguments):
        self.folder = WORK / name
        self.log = WORK / f"{name}.log"
        command = [PROGRAM, "sandbox", "--json", "--listen", "127.0.0.1:0", "--dir", self.folder, *arguments]
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log)
        line = self.process.stdout.readline()
        if not line:
            self.process.wait()
            sys.exit(f"the sandbox did not start: {self.log.read_text()}")
        self.ready = json.loads(line)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def environment(self):
        """What a client has to know; each finds the certificate authority by the variable of its own ecosystem."""
        environment = {name: value for name, value in os.environ.items() if "proxy" not in name.lower()}
        environment |= {"SANDBOX": json.dumps(self.ready), "DOCS": str(DOCS), "WORK": str(WORK)}
        environment["PROGRAM"] = PROGRAM
        authority = self.ready.get("certificateAuthority")
        receivers, key = (authority, self.folder / "tls/ca.key") if authority else AUTHORITY
        environment |= {"RECEIVER_CA": str(receivers), "RECEIVER_CA_KEY": str(key)}
        if authority:
            names = ["REQUESTS_CA_BUNDLE", "SSL_CERT_FILE", "CURL_CA_BUNDLE", "NODE_EXTRA_CA_CERTS"]
            environment |= dict.fromkeys(names, authority)
        return environment


def run(check, sandbox, mode):
    """Runs one check; its lines begin with the mode."""
    interpreter = [sys.executable] if check.endswith(".py") else ["node"]
    output = WORK / "output"
    with open(output, "wb") as file:
        child = subprocess.Popen(
            [*interpreter, WORK / check], env=sandbox.environment(), stdout=file, stderr=subprocess.STDOUT, cwd=WORK
        )
        try:
            code = child.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
            code = f"nothing for {PATIENCE} s"
    text = output.read_text(errors="replace")
    if code == 0 and text.startswith("ok "):
        for line in text.splitlines():
            print(line.replace("ok ", f"ok {mode}: ", 1), flush=True)
        return
    ledger = sandbox.log.read_text(errors="replace")
    print(f"FAILED {mode}: {check} ({code})\n{text}\n--- the sandbox said\n{ledger}", file=sys.stderr)
    print(f"--- the last requests\n{last_requests(sandbox)}", file=sys.stderr)
    sys.exit(1)


def last_requests(sandbox):
    """The end of the sandbox's ledger."""
    command = ["curl", "-sS", f"{sandbox.ready['url']}/_sandbox/ledger"]
    asked = subprocess.run(command, env=sandbox.environment(), capture_output=True, text=True, timeout=10, check=False)
    return "\n".join(asked.stdout.splitlines()[-20:]) + asked.stderr


def main():
    # So that the sandbox is stopped, too, when this is.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    began = time.monotonic()
    if sys.argv[4:] == ["write"]:
        os.environ["WRITE"] = "1"
        with Sandbox("write") as sandbox:
            run("documents.py", sandbox, "written")
        return
    # With TLS, the sandbox trusts its own authority by itself.
    for mode, arguments in [("plain", ["--trust", AUTHORITY[0]]), ("TLS", ["--tls"])]:
        for options, checks in [(USUAL, CHECKS), (FAST, FAST_CHECKS), ([], DOCUMENTS)]:
            with Sandbox(f"{mode}{checks[0]}", *arguments, *options) as sandbox:
                for check in checks:
                    run(check, sandbox, mode)
    print(f"all strangers were served in {time.monotonic() - began:.0f} s")


main()
