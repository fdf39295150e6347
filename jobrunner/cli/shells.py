"""Shell completion: click's own, with two amendments.

What follows `--option=` is proposed with it, for it is the word as a whole that shells replace.  But bash: it splits
words at `=` too, so its script hands over the line as it is, and takes back what follows the last split.
"""

import os
from typing import ClassVar, Final

from click import Command
from click.shell_completion import (
    BashComplete,
    CompletionItem,
    FishComplete,
    ShellComplete,
    ZshComplete,
    add_completion_class,
    get_completion_class,
    split_arg_string,
)

SHELLS: Final = ("bash", "zsh", "fish")

_SCRIPT: Final = """\
%(complete_func)s() {
    local kind value
    COMPREPLY=()
    while IFS=, read -r kind value; do
        case $kind in
            dir) compopt -o dirnames ;;
            file) compopt -o default ;;
            plain)
                COMPREPLY+=("$(printf %%q "$value")")
                if [[ $value == *[=/] ]]; then compopt -o nospace; fi
                ;;
        esac
    done < <(COMP_LINE="${COMP_LINE:0:COMP_POINT}" COMP_WORD="$2" %(complete_var)s=bash_complete "$1" 2>/dev/null)
}

complete -o nosort -F %(complete_func)s %(prog_name)s
"""


class _WholeWords(ShellComplete):
    def get_completions(self, args: list[str], incomplete: str) -> list[CompletionItem[str]]:
        """Return what may stand in place of the word that is being typed."""
        found = super().get_completions(args, incomplete)
        option, equals, _ = incomplete.partition("=")
        if not (equals and option.startswith("-")):
            return found
        return [CompletionItem(f"{option}={item.value}", item.type, item.help) for item in found]


@add_completion_class
class Zsh(_WholeWords, ZshComplete):
    """Completion for zsh."""


@add_completion_class
class Fish(_WholeWords, FishComplete):
    """Completion for fish."""


@add_completion_class
class Bash(_WholeWords, BashComplete):
    """Completion for bash 4.4 and later."""

    source_template: ClassVar[str] = _SCRIPT

    def get_completion_args(self) -> tuple[list[str], str]:
        """Return the words before the one that is being typed, and that one."""
        line = os.environ["COMP_LINE"]
        words = split_arg_string(line)[1:]
        begun = words.pop() if words and not line[-1:].isspace() else ""
        return words, begun

    def get_completions(self, args: list[str], incomplete: str) -> list[CompletionItem[str]]:
        """Return what may stand in place of what bash calls the present word."""
        found = super().get_completions(args, incomplete)
        kept = incomplete.removesuffix(os.environ["COMP_WORD"])
        return [CompletionItem(item.value.removeprefix(kept), item.type, item.help) for item in found]


def script(shell: str, command: Command, name: str) -> str:
    """Return what a shell must read to complete the words after `name`, the program that runs `command`."""
    kind = get_completion_class(shell)
    assert kind is not None, shell  # noqa: S101 - it is one of SHELLS
    return kind(command, {}, name, f"_{name.upper()}_COMPLETE").source()
