"""Runs Tcl scripts whose commands are Python functions.

The interpreter is Python's own (``tkinter.Tcl``, which needs no display) or else ``tclsh``. The
commands belong to an object with the attributes ``commands`` (their names), ``call(name,
arguments)`` and ``output``, a list to which ``puts`` appends.
"""

import re
import shutil
import subprocess

__all__ = ["Exit", "TclError", "interpreter"]


class TclError(Exception):
    """What Vivado would say."""


class Exit(Exception):
    """The script called ``exit``."""

    def __init__(self, code):
        super().__init__(code)
        self.code = code


class _Tkinter:
    """Python's own Tcl."""

    def __init__(self, vivado):
        import tkinter

        self._tcl = tkinter.Tcl()
        self._vivado = vivado
        self._failure = None
        vivado.split = self._tcl.splitlist
        for name in vivado.commands:
            self._tcl.createcommand(name, lambda *arguments, n=name: self._call(n, arguments))
        self._tcl.createcommand("__puts", lambda text: vivado.output.append(text) or "")
        self._tcl.createcommand("__exit", lambda code="0": self._exit(code))

    def _call(self, name, arguments):
        try:
            return self._vivado.call(name, arguments)
        except Exception as error:
            self._failure = self._failure or error
            raise

    def _exit(self, code):
        self._failure = Exit(int(code))
        raise self._failure

    def source(self, script, arguments=()):
        import tkinter

        self._tcl.setvar("argv", arguments)
        self._tcl.eval(_PUTS)
        try:
            self._tcl.eval(f"source {{{script}}}")
        except tkinter.TclError as error:
            raise (self._failure or TclError(str(error))) from None


class _Tclsh:
    """A ``tclsh``, to which the stand-ins are procedures that ask this process over a pipe."""

    def __init__(self, vivado):
        self._vivado = vivado
        vivado.split = self._split

    def source(self, script, arguments=()):
        names = " ".join(name for name in self._vivado.commands)
        program = _TCLSH.replace("@names@", names).replace("@script@", str(script))
        program = program.replace("@argv@", " ".join(arguments)).replace("@puts@", _PUTS)
        self._process = subprocess.Popen(
            [shutil.which("tclsh")], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        with self._process as process:
            self._process.stdin.write(f"eval [encoding convertfrom utf-8 [binary decode hex "
                                      f"{program.encode().hex()}]]\n")  # fmt: skip
            self._process.stdin.flush()
            for line in process.stdout:
                kind, *words = line.split()
                words = [bytes.fromhex(word[1:]).decode() for word in words]
                if kind == "puts":
                    self._vivado.output.append(words[0])
                    self._answer("ok")
                elif kind == "exit":
                    process.kill()
                    raise Exit(int(words[0]))
                elif kind == "failed":
                    process.kill()
                    raise TclError(words[0])
                elif kind == "done":
                    process.kill()
                    return
                else:
                    try:
                        self._answer("ok", self._vivado.call(words[0], words[1:]))
                    except Exception:
                        process.kill()
                        raise
        raise TclError("tclsh ended")

    def _answer(self, kind, text=""):
        self._process.stdin.write(f"{kind} x{text.encode().hex()}\n")
        self._process.stdin.flush()

    @staticmethod
    def _split(text):
        """A Tcl list whose elements are words or in braces."""
        return [a or b for a, b in re.findall(r"\{([^{}]*)\}|(\S+)", text)]


_PUTS = """
rename puts __real_puts
proc puts {args} {
    if {[llength $args] == 1} { __puts [lindex $args 0] } else { __real_puts {*}$args }
}
catch {rename exit __real_exit}
proc exit {{code 0}} { __exit $code }
"""

_TCLSH = """
proc __ask {kind args} {
    set line $kind
    foreach word $args { append line " x" [binary encode hex [encoding convertto utf-8 $word]] }
    __out $line
    gets stdin reply
    return [encoding convertfrom utf-8 [binary decode hex [string range [lindex $reply 1] 1 end]]]
}
proc __out {line} { if {[llength [info commands __real_puts]]} {set p __real_puts} else {set p puts}
    $p stdout $line; ::flush stdout }
proc __puts {text} { __ask puts $text }
proc __exit {code} { __ask exit $code }
foreach name {@names@} { proc $name args "__ask call $name {*}\\$args" }
set argv {@argv@}
@puts@
if {[catch {source {@script@}} message]} { __ask failed $message } else { __out done }
"""


def interpreter(vivado, kind=None):
    """A Tcl interpreter that has the stand-ins of ``vivado``, or None where there is no Tcl.

    Parameters
    ----------
    vivado : FakeVivado
    kind : str or None
        ``"tkinter"`` or ``"tclsh"``; None takes the first there is.
    """
    if kind in (None, "tkinter"):
        try:
            import tkinter  # noqa: F401

            return _Tkinter(vivado)
        except ImportError:
            pass
    if kind in (None, "tclsh") and shutil.which("tclsh"):
        return _Tclsh(vivado)
    return None
