"""Ctrl-C: one line and status 130, whenever it is pressed.

    while Python imports      `heed_as_program`: the process ends at once, as there is nothing to put away
    while the command works   `heed`: KeyboardInterrupt once, so that what is half written is removed; five seconds
                              later, or at a second Ctrl-C, the process ends wherever it is, in native code too
    at the end                os._exit: Python takes nothing down, as threads that still compile would crash in it

That loses nothing, because what these programs have finished outlives a kill at any moment.
"""

from __future__ import annotations

# Not more, not even typing: in the milliseconds before `heed_as_program` Ctrl-C is a traceback of Python's own.
import os
import signal
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType
    from typing import Any, NoReturn

STATUS = 128 + signal.SIGINT
LINE = "interrupted"
_GRACE_SECONDS = 5.0
_PACKAGES = ("eval", "lrsclip_jax")
_SCRIPT = "lrsclip"
_unsaid = [LINE]


def heed_as_program() -> None:
    """Lets Ctrl-C end the process at once, where Python was started to run a command of these packages.

    The packages call it first of all: importing the rest takes from a tenth of a second to several. Where they are
    imported by another program, nothing changes.
    """
    if _is_program() and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _end_now)


def heed() -> Callable[[], None]:
    """Lets the first Ctrl-C raise KeyboardInterrupt in the main thread, and the second end the process.

    In the midst of an import the first one ends it: modules that are half imported turn it into errors of their own.
    Where Ctrl-C is ignored, as in a shell's background job, it stays so. Call it in the main thread.

    Returns a function to be called once the outcome is told. From then on Ctrl-C ends a program at once; where another
    program has called this one, it means what it meant before.
    """
    import atexit
    import threading

    before = signal.getsignal(signal.SIGINT)
    if before in (signal.SIG_IGN, _raise_once, _raised):
        return lambda: None
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    signal.signal(signal.SIGINT, _raise_once)
    # Native code that runs for minutes keeps the main thread from its handler: another thread hears the signal, too.
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    threading.Thread(target=_end_late, args=(reader,), name="interrupts", daemon=True).start()
    # For the process that removes the semaphores of a pool whose parent has ended: it would count them on stderr.
    sys.warnoptions.append("ignore:resource_tracker:UserWarning")
    hook, sys.unraisablehook = sys.unraisablehook, _swallowed
    # The last of all: from then on the interpreter takes itself down, and would die by the signal without a line.
    atexit.register(signal.signal, signal.SIGINT, signal.SIG_IGN)

    def at_end() -> None:
        if received():
            return
        signal.signal(signal.SIGINT, before)
        if before is not _end_now:
            signal.set_wakeup_fd(-1)
            os.close(writer)  # which ends the thread
            sys.unraisablehook = hook

    return at_end


class put_off:
    """A context in which the first Ctrl-C calls `first`, from a thread, and the second ends the process at once.

    A program that saves before it leaves works within it. The second is heard in native code, too. Enter it in the main
    thread. Where Ctrl-C is ignored, it stays so; afterwards it means what it meant before.
    """

    def __init__(self, first: Callable[[], None]):
        self._first = first

    def __enter__(self) -> None:
        import threading

        self._before = signal.getsignal(signal.SIGINT)
        if self._before is signal.SIG_IGN:
            return
        reader, self._writer = os.pipe()
        os.set_blocking(self._writer, False)
        signal.signal(signal.SIGINT, _left_to_thread)
        self._other = signal.set_wakeup_fd(self._writer, warn_on_full_buffer=False)
        threading.Thread(target=self._hear, args=(reader,), name="put off", daemon=True).start()

    def __exit__(self, *_: object) -> None:
        if self._before is signal.SIG_IGN:
            return
        signal.set_wakeup_fd(self._other, warn_on_full_buffer=False)
        signal.signal(signal.SIGINT, self._before)
        os.close(self._writer)  # which ends the thread

    def _hear(self, reader: int) -> None:
        interrupts = 0
        while heard := os.read(reader, 1):
            if heard != bytes([signal.SIGINT]):
                continue  # other signals come this way, too
            interrupts += 1
            if interrupts > 1:
                end()
            self._first()
        os.close(reader)


class born_deaf:
    """A context in which processes and threads start deaf to these signals: the parent says when they end.

    While they import, an interrupt would be a traceback from each. The parent gets at the end what it was sent.
    """

    def __init__(self, *signals: signal.Signals):
        self._signals = signals

    def __enter__(self) -> None:
        from multiprocessing.resource_tracker import ensure_running

        ensure_running()  # where it starts a process of its own, it lets the signals in again
        self._before = signal.pthread_sigmask(signal.SIG_BLOCK, self._signals)

    def __exit__(self, *_: object) -> None:
        signal.pthread_sigmask(signal.SIG_SETMASK, self._before)


def received() -> bool:
    """Returns whether Ctrl-C was pressed since `heed`."""
    return signal.getsignal(signal.SIGINT) is _raised


def end() -> NoReturn:
    """Ends the process with the line "interrupted" and status 130, without taking the interpreter down."""
    say()
    os._exit(STATUS)


def say() -> None:
    """Writes "interrupted" to stderr, once: the main thread and the one that waits for it may both come to it."""
    try:
        line = _unsaid.pop()
        os.write(2, f"\n{line}\n".encode() if os.isatty(2) else f"{line}\n".encode())  # a bar leaves its line open
    except (IndexError, OSError):
        pass  # said already, or nobody reads it


def _is_program() -> bool:
    called, words = (getattr(sys, "argv", None) or [""])[0], sys.orig_argv
    if called == "-m" and "-m" in words[:-1]:  # "-m" only until the module is found, when its packages are imported
        return words[words.index("-m") + 1].split(".")[0] in _PACKAGES
    return os.path.basename(called) == _SCRIPT and called in words  # not in a process that this one has started


def _end_now(signum: int, frame: FrameType | None) -> None:
    end()


def _raise_once(signum: int, frame: FrameType | None) -> None:
    if _is_importing(frame):
        end()
    signal.signal(signal.SIGINT, _raised)
    if logging := sys.modules.get("logging"):
        logging.disable()  # what breaks off is no news
    raise KeyboardInterrupt


def _left_to_thread(signum: int, frame: FrameType | None) -> None:
    """Within `put_off`, whose thread hears it."""


def _raised(signum: int, frame: FrameType | None) -> None:
    """After the first: `_end_late` hears the second."""


def _is_importing(frame: FrameType | None) -> bool:
    while frame is not None:
        if frame.f_code.co_filename == "<frozen importlib._bootstrap>":
            return True
        frame = frame.f_back
    return False


def _end_late(reader: int) -> None:
    import select

    interrupt = bytes([signal.SIGINT])
    while (heard := os.read(reader, 1)) not in (interrupt, b""):
        pass  # other signals come this way, too
    while heard and select.select([reader], [], [], _GRACE_SECONDS)[0]:
        if (heard := os.read(reader, 1)) == interrupt:
            break
    if heard:
        end()
    os.close(reader)  # the program is over


def _swallowed(details: Any) -> None:
    """An exception that Python can't raise: of a destructor or a callback of native code."""
    if isinstance(details.exc_value, KeyboardInterrupt):
        end()
    if not received():
        sys.__unraisablehook__(details)
