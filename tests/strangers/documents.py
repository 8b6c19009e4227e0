"""docs/sandbox.md: everything that it shows is run, and shows what comes out of it.

With WRITE in the environment, the document is written anew with what came out.
"""

import os
import pathlib
import re
import subprocess
import sys

from altinn import SANDBOX, URL, ok

DOCS, WORK = pathlib.Path(os.environ["DOCS"]), pathlib.Path(os.environ["WORK"])
WRITES = "WRITE" in os.environ
DOCUMENT = DOCS / "sandbox.md"
START = "formidlingd sandbox --dir /tmp/sandbox"
# What is somewhere else when this is run.
PLACES = {
    "http://127.0.0.1:8090": URL,
    "/tmp/sandbox": SANDBOX["dir"],
    "/tmp/hello.txt": str(WORK / "hello.txt"),
    "/tmp/initialized.json": str(WORK / "initialized.json"),
}
# What is different each time.
CHANGING = [
    (r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", "UUID"),
    (r"\b00-[0-9a-f]{32}-[0-9a-f]{16}-00\b", "TRACE"),
    (r"\d{4}-\d\d-\d\dT[0-9:.]+Z", "TIME"),
    (r'"(sequence|milliseconds)":\d+', "NUMBER"),
]


def steady(text):
    for pattern, name in CHANGING:
        text = re.sub(pattern, name, text)
    return text


def moved(text, back=False):
    for shown, real in PLACES.items():
        text = text.replace(real, shown) if back else text.replace(shown, real)
    return text


def blocks(text, language):
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)


def is_whole(command):
    check = subprocess.run(["bash", "-n", "-c", command], capture_output=True, check=False)
    return check.returncode == 0


def steps(block):
    """Commands with what they are said to print."""
    found = []
    for line in block.splitlines(keepends=True):
        if line.startswith("$ "):
            found.append([line[2:], ""])
        elif not is_whole(found[-1][0]):
            found[-1][0] += line
        else:
            found[-1][1] += line
    return found


def run(session):
    """What each command of one shell prints."""
    mark = "---- the next command ----"
    script = "".join(f"{moved(command)}\nprintf '\\n{mark}\\n'\n" for command in session)
    environment = os.environ | {"PATH": f"{pathlib.Path(sys.executable).parent}:{os.environ['PATH']}"}
    done = subprocess.run(
        ["bash", "-c", script], cwd=DOCS.parent, env=environment, capture_output=True, text=True, check=False, timeout=50
    )
    assert done.stderr == "", done.stderr
    # The last line of an output may have no end, and gets one in the document.
    outputs = [output.removesuffix("\n") for output in done.stdout.split(f"\n{mark}\n")[:-1]]
    return [moved(output, back=True) + "\n" if output else "" for output in outputs]


def started():
    """What the sandbox says before its first configuration, on a folder that has all keys already."""
    with subprocess.Popen(
        [os.environ["PROGRAM"], "sandbox", "--listen", "127.0.0.1:0", "--dir", WORK / "started"],
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        said = ""
        while not (line := process.stdout.readline()).startswith("#"):
            assert line, "the sandbox ended"
            said += line
        process.terminate()
        process.communicate()
    address = re.search(r"http://127.0.0.1:\d+", said)[0]
    return said.replace(address, "http://127.0.0.1:8090").replace(str(WORK / "started"), "/tmp/sandbox").rstrip("\n") + "\n"


def main():
    text = DOCUMENT.read_text(encoding="utf-8")
    for name, language in [("send-and-receive.py", "python"), ("send-and-receive.mjs", "js")]:
        source = (DOCS / "sandbox" / name).read_text(encoding="utf-8")
        (shown,) = blocks(text, language)
        if WRITES:
            text = text.replace(f"```{language}\n{shown}", f"```{language}\n{source}")
        else:
            assert shown == source, f"{DOCUMENT} does not show {name} as it is"
    ok("the document shows the examples as they are")

    all_steps = [step for block in blocks(text, "console") for step in steps(block)]
    session = [command for command, _ in all_steps if command.strip() != START]
    # Node looks for modules beside the script, and nothing is installed beside the documents.
    at_work = str(WORK / "send-and-receive.mjs")
    (WORK / "send-and-receive.mjs").write_bytes((DOCS / "sandbox/send-and-receive.mjs").read_bytes())
    outputs = iter(run([command.replace("docs/sandbox/send-and-receive.mjs", at_work) for command in session]))
    for command, expected in all_steps:
        printed = started() if command.strip() == START else next(outputs)
        if WRITES:
            text = text.replace(f"$ {command}{expected}", f"$ {command}{printed}", 1)
            continue
        assert steady(printed) == steady(expected), f"$ {command}{printed}\ninstead of\n{expected}"
    if WRITES:
        DOCUMENT.write_text(text, encoding="utf-8")
    ok(f"{len(all_steps)} commands of the document print what it says, the examples in Python and JavaScript among them")


main()
