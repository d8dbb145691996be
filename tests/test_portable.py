"""Recognition runs on Linux, macOS and Windows: no module on its road asks for what one lacks.

The road: all that `funasr` and `AutoModel` can reach by imports, also by those inside functions.
Recipes and the programs of training are for Linux, macOS and WSL, and are not looked at.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator

import pytest

from tests.test_layers import MODULES, imports, imports_of_ours

ENTRANCES = ("cli.main", "__main__", "api.auto", "api.live", "decode.streaming")
# Only on POSIX, or gone by Python 3.13.
LACKING = {
    *(
        "fcntl",
        "resource",
        "pwd",
        "grp",
        "spwd",
        "termios",
        "tty",
        "pty",
        "syslog",
        "posix",
        "readline",
    ),
    *(
        "aifc",
        "audioop",
        "cgi",
        "chunk",
        "crypt",
        "imghdr",
        "pipes",
        "sndhdr",
        "sunau",
        "telnetlib",
    ),
    *("asyncore", "distutils", "imp", "pkg_resources"),
}
POSIX_OS = {
    *(
        "fork",
        "forkpty",
        "killpg",
        "kill",
        "setsid",
        "getuid",
        "geteuid",
        "getgid",
        "getegid",
        "getpgid",
    ),
    *(
        "setpgid",
        "chown",
        "fchown",
        "mkfifo",
        "mknod",
        "nice",
        "uname",
        "wait",
        "wait3",
        "wait4",
        "waitpid",
    ),
    *("sched_getaffinity", "sched_setaffinity", "getloadavg", "statvfs", "sync", "pread", "pwrite"),
    *(
        "posix_fallocate",
        "openpty",
        "ttyname",
        "O_NONBLOCK",
        "O_NOFOLLOW",
        "O_DIRECTORY",
        "O_CLOEXEC",
    ),
}
POSIX_SIGNALS = {
    *(
        "SIGKILL",
        "SIGUSR1",
        "SIGUSR2",
        "SIGALRM",
        "SIGHUP",
        "SIGQUIT",
        "SIGCHLD",
        "SIGPIPE",
        "SIGSTOP",
    ),
    *(
        "SIGCONT",
        "SIGTSTP",
        "alarm",
        "setitimer",
        "pause",
        "pthread_kill",
        "pthread_sigmask",
        "sigwait",
    ),
}
PLACES = ("/tmp", "/dev/", "/proc/", "/etc/", "/usr/", "/var/")
# Fault -> modules where it is right, and why.
RIGHT = {
    # `cmd |` in the user's own list: whoever writes the list knows the shell of the system.
    "shell": {"data.audio.read"},
    # One line, without its end.
    "ends of lines of the system": {"hub.huggingface"},
    # Not asked on Windows.
    "os.kill": {"files"},
    # A copy where there can be none.
    "links: not every user may make one on Windows": {"hub.download"},
}


def road() -> list[str]:
    """Names of the modules that recognition can reach."""
    waiting, seen = [name for name in ENTRANCES if name in MODULES], set[str]()
    while waiting:
        name = waiting.pop()
        if name not in seen:
            seen.add(name)
            waiting += imports_of_ours(MODULES[name])
    return sorted(seen)


ROAD = road()


def keywords(node: ast.Call) -> dict[str, ast.expr]:
    return {k.arg: k.value for k in node.keywords if k.arg}


def is_text(node: ast.Call, place: int) -> bool:
    """Whether a call of open, whose mode is the argument at `place`, opens text."""
    mode = keywords(node).get("mode", node.args[place] if len(node.args) > place else None)
    modes = [n.value for n in ast.walk(mode) if isinstance(n, ast.Constant)] if mode else []
    return not [m for m in modes if "b" in str(m)]


def writes(node: ast.Call) -> bool:
    """Whether a call of open, of text, is for writing."""
    constants = [n.value for n in ast.walk(node) if isinstance(n, ast.Constant)]
    return bool(
        {"w", "a", "x", "w+", "a+", "r+"} & {str(value) for value in constants}
    ) and not any("b" in str(value) and len(str(value)) < 4 for value in constants)


def faults_of_text(node: ast.Call) -> Iterator[str]:
    """Text is UTF-8 with \\n at its ends of lines, whatever the system's own habits."""
    name, given = ast.unparse(node.func), keywords(node)
    method = node.func.attr if isinstance(node.func, ast.Attribute) else ""
    opener = name != "self.open" and method == "open" and NOT_FILES.isdisjoint(name.split(".")[:-1])
    opens = (name == "open" or opener) and is_text(node, 1 if name == "open" else 0)
    places = {"read_text": 0, "write_text": 1}
    if method in places and len(node.args) <= places[method] and "encoding" not in given:
        yield "text without encoding"
    decodes = name.startswith("subprocess.") and given.keys() & {"text", "universal_newlines"}
    if (opens or decodes) and "encoding" not in given:
        yield "text without encoding"
    if (method == "write_text" or (opens and writes(node))) and "newline" not in given:
        yield "ends of lines of the system"


def faults_of_call(node: ast.Call) -> Iterator[str]:
    yield from faults_of_text(node)
    name, given = ast.unparse(node.func), {k: ast.unparse(v) for k, v in keywords(node).items()}
    last = name.rsplit(".", 1)[-1]
    if last == "rename":
        yield "rename: os.replace works where the file is there, too"
    if last == "NamedTemporaryFile" and given.get("delete") != "False":
        yield "NamedTemporaryFile: cannot be opened a second time; use a TemporaryDirectory"
    if name in ("os.system", "os.popen") or given.get("shell") == "True":
        yield "shell"
    if {"preexec_fn", "start_new_session", "pass_fds"} & given.keys():
        yield "POSIX-only start of a process"
    if last in ("symlink", "link", "symlink_to", "hardlink_to"):
        yield "links: not every user may make one on Windows"
    if last in ("get_context", "set_start_method") and "spawn" not in ast.unparse(node):
        yield "processes are only spawned everywhere"


# What has a method `open` that opens no text.
NOT_FILES = {"tarfile", "zipfile", "wave", "os", "recognizer", "pipeline", "opener"}


def faults_of_name(node: ast.Attribute) -> Iterator[str]:
    module = ast.unparse(node.value)
    if node.attr in {"os": POSIX_OS, "signal": POSIX_SIGNALS}.get(module, set()):
        yield f"{module}.{node.attr}"


def faults_of_import(node: ast.Import | ast.ImportFrom) -> Iterator[str]:
    modules = [a.name for a in node.names] if isinstance(node, ast.Import) else [str(node.module)]
    yield from (f"import {name}" for name in modules if name.split(".")[0] in LACKING)
    if modules in (["os"], ["signal"]) and isinstance(node, ast.ImportFrom):
        names = [a.name for a in node.names if a.name in POSIX_OS | POSIX_SIGNALS]
        yield from (f"{modules[0]}.{name}" for name in names)


def faults(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """(line, what) of all that some system lacks."""
    for node in ast.walk(tree):
        found: Iterator[str] = iter(())
        if isinstance(node, ast.Call):
            found = faults_of_call(node)
        elif isinstance(node, ast.Attribute):
            found = faults_of_name(node)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            found = faults_of_import(node)
        elif isinstance(node, ast.Constant) and str(node.value).startswith(PLACES):
            found = iter([f"a place of POSIX: {node.value}"])
        yield from ((node.lineno, what) for what in found)


def test_the_road_is_that_of_recognition():
    some = {"api.auto", "api.tasks", "decode.search", "data.audio.read", "hub.directories"}
    assert {*some, "cli.doctor"} <= set(ROAD)
    assert not {name for name in ROAD if name.startswith("train")}
    assert not {i for name in ROAD for i in imports(MODULES[name]) if i.split(".")[0] == "hydra"}


@pytest.mark.parametrize("name", ROAD)
def test_nothing_on_the_road_is_lacking_elsewhere(name):
    tree = ast.parse(MODULES[name].read_text(encoding="utf-8"))
    found = [
        f"{MODULES[name].name}:{line}: {what}"
        for line, what in faults(tree)
        if name not in RIGHT.get(what, ())
    ]
    assert found == []


@pytest.mark.parametrize(
    "line",
    [
        "import fcntl",
        "from os import fork",
        "os.killpg(1, 2)",
        "signal.signal(signal.SIGUSR1, f)",
        "from signal import SIGKILL",
        "open(path)",
        "open(path, 'r')",
        "path.open()",
        "path.read_text()",
        "path.write_text(text, 'utf-8')",
        "multiprocessing.get_context('fork')",
        "path.open('a', encoding='utf-8')",
        "subprocess.run(command, text=True)",
        "path.rename(other)",
        "os.rename(a, b)",
        "tempfile.NamedTemporaryFile()",
        "subprocess.run('ls', shell=True)",
        "subprocess.run(a, preexec_fn=f)",
        "Path('/tmp/x')",
        "f'/dev/{x}'",
        "a.symlink_to(b)",
    ],
)
def test_what_is_lacking_is_found(line):
    assert len(list(faults(ast.parse(line)))) == 1


@pytest.mark.parametrize(
    "line",
    [
        "open(path, 'rb')",
        "open(path, encoding='utf-8')",
        "path.open('rb')",
        "path.write_text(text, 'utf-8', newline='\\n')",
        "open(path, 'a', encoding='utf-8', newline='')",
        "tarfile.open(path)",
        "os.replace(a, b)",
        "tempfile.TemporaryFile(dir=folder)",
        "subprocess.run(command, text=True, encoding='utf-8')",
        "getattr(os, 'sched_getaffinity', None)",
    ],
)
def test_what_is_everywhere_is_let_through(line):
    assert list(faults(ast.parse(line))) == []
