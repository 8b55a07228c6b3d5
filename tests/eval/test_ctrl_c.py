"""Ctrl-C in each state of a program, sent when it says that it is there."""

import signal
import subprocess
import sys
import textwrap
import threading
import time

import pytest

from eval import interrupts
from eval.errors import cli

MAIN = "import sys, time, threading, atexit, hashlib\nfrom eval import interrupts\nfrom eval.errors import cli\n"


def run(words, times=1, **settings):
    """Returns (status, stderr, seconds since the signal) of a program that is interrupted once it says "here"."""
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **settings) as process:
        line = process.stdout.readline()
        sent = time.monotonic()
        for _ in range(times):
            process.send_signal(signal.SIGINT)
            time.sleep(0.2)
        rest, said = process.communicate(timeout=30)
        assert line == "here\n", said
        return process.returncode, rest + said, time.monotonic() - sent


def script(folder, body):
    """A program that is called as ours, so that Ctrl-C ends it until its very end."""
    (folder / "lrsclip").write_text(program(body)[2])
    return [sys.executable, str(folder / "lrsclip")]


def program(body, before=""):
    code = (
        f"{MAIN}{textwrap.dedent(before)}\ndef main():\n{textwrap.indent(textwrap.dedent(body), '    ')}\ncli(main)\n"
    )
    return [sys.executable, "-c", code]


@pytest.mark.parametrize(
    "body",
    [
        "print('here', flush=True); time.sleep(30)",
        "with threading.Lock():\n    print('here', flush=True); time.sleep(30)",
        # swallowed by a destructor, which Python would report and go on
        "class A:\n    def __del__(self):\n        print('here', flush=True); time.sleep(30)\nA(); time.sleep(30)",
        # turned into another exception, as native code does
        "try:\n    print('here', flush=True); time.sleep(30)\nexcept KeyboardInterrupt:\n    raise RuntimeError('A')",
        # what threads say of it is no news
        "threading.Thread(target=lambda: (time.sleep(1), 1 / 0)).start(); print('here', flush=True); time.sleep(30)",
        # in the midst of an import
        "sys.path.insert(0, sys.argv[1]); import slow_to_import",
    ],
    ids=["work", "lock", "destructor", "native", "thread", "import"],
)
def test_ctrl_c_is_one_line_and_status_130(body, tmp_path):
    (tmp_path / "slow_to_import.py").write_text(
        "import time\ntry:\n    print('here', flush=True), time.sleep(9)\nexcept BaseException:\n    raise ImportError"
    )
    status, said, seconds = run([*program(body), str(tmp_path)])
    assert (status, said) == (130, "interrupted\n") and seconds < 4


def test_what_is_half_written_is_removed_first(tmp_path):
    body = f"""
        from pathlib import Path
        from eval.whole import whole
        with whole({str(tmp_path / "a")!r}) as partial:
            partial.write_text("half")
            print("here", flush=True)
            time.sleep(30)
    """
    assert run(program(body))[:2] == (130, "interrupted\n")
    assert list(tmp_path.iterdir()) == []


# No handler of Python's is run in there; "here" comes once it has begun.
NATIVE = (
    "threading.Timer(0.3, print, ['here'], {'flush': True}).start(); hashlib.pbkdf2_hmac('sha256', b'', b'', 10**9)"
)
HELD = "try:\n    print('here', flush=True); time.sleep(60)\nfinally:\n    time.sleep(60)"


@pytest.mark.parametrize("body", [NATIVE, HELD], ids=["native", "held"])
def test_the_second_ctrl_c_waits_for_nothing(body):
    status, said, seconds = run(program(body), times=2)
    assert (status, said) == (130, "interrupted\n") and seconds < 3


@pytest.mark.parametrize("body", [NATIVE, HELD], ids=["native", "held"])
def test_the_first_does_not_wait_for_ever(body):
    status, said, seconds = run(program(body, before="interrupts._GRACE_SECONDS = 0.5"))
    assert (status, said) == (130, "interrupted\n") and 0.5 <= seconds < 4


@pytest.mark.parametrize(
    ("body", "outcome"),
    [
        ("atexit.register(lambda: (print('here', flush=True), time.sleep(30)))", (130, "interrupted\n")),
        ("threading.Thread(target=lambda: (print('here', flush=True), time.sleep(3))).start()", (130, "interrupted\n")),
    ],
    ids=["atexit", "threads"],
)
def test_at_the_end_of_a_program_it_is_no_traceback_either(body, outcome, tmp_path):
    assert run(script(tmp_path, body))[:2] == outcome


def test_while_the_interpreter_takes_itself_down_it_is_ignored():
    body = "sys.leaves = Leaves()"
    before = """
        class Leaves:
            def __del__(self, write=__import__("os").write, sleep=time.sleep):
                write(1, b"here\\n"), sleep(0.5)
    """
    assert run(program(body, before))[:2] == (0, "")


def test_packages_that_are_run_heed_it_from_their_first_import(tmp_path):
    """A heavy module stands for all that commands import."""
    (tmp_path / "difflib.py").write_text("import time\nprint('here', flush=True)\ntime.sleep(30)\n")
    for words in (["-m", "eval.papers"], ["-m", "lrsclip_jax.main"], [str(tmp_path / "lrsclip")]):
        (tmp_path / "lrsclip").write_text(
            f"import sys\nsys.path.insert(0, {str(tmp_path)!r})\nfrom lrsclip_jax import cli\n"
        )
        code = {"PYTHONPATH": f"{tmp_path}:{':'.join(sys.path)}"}
        assert run([sys.executable, *words], env=code)[:2] == (130, "interrupted\n"), words


def test_programs_of_others_keep_their_own_ctrl_c():
    for module in ("eval", "lrsclip_jax"):
        code = f"import signal, {module}; assert signal.getsignal(signal.SIGINT) is signal.default_int_handler"
        subprocess.run([sys.executable, "-c", code], check=True)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    interrupts.heed_as_program()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    hooks, threads = (sys.unraisablehook, threading.excepthook), threading.active_count()
    with pytest.raises(SystemExit):
        cli(lambda: 3)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler and signal.set_wakeup_fd(-1) == -1
    assert (sys.unraisablehook, threading.excepthook) == hooks
    for thread in threading.enumerate():
        if thread.name == "interrupts":
            thread.join(5)
    assert threading.active_count() == threads


def test_a_defect_in_a_thread_is_one_line(tmp_path):
    body = f"""
        import tempfile
        tempfile.tempdir = {str(tmp_path)!r}
        thread = threading.Thread(target=lambda: 1 / 0)
        thread.start(), thread.join()
        print("done")
    """
    done = subprocess.run(program(body), capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "done\n") and len(list(tmp_path.iterdir())) == 1
    assert done.stderr.startswith("error: a defect of this program") and done.stderr.count("\n") == 1


def test_where_ctrl_c_is_ignored_it_stays_so():
    body = "print('here', flush=True); time.sleep(1); print('done')"
    ignored = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        assert run(program(body))[:2] == (0, "done\n")
    finally:
        signal.signal(signal.SIGINT, ignored)
