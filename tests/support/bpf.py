"""A classic BPF machine in a few lines: what the kernel does with a system call filter, for tests.

Only the instructions that a seccomp filter may hold; anything else raises. Source: the kernel's BPF documents.
"""

from __future__ import annotations

import struct

ALLOW = 0x7FFF0000
ERRNO = 0x00050000


def run_filter(
    program: bytes, number: int, arguments: tuple[int, ...] = (), architecture: int = 0xC000003E
) -> int:
    """The filter's answer to one call. Raises where the kernel would refuse to load such a program."""
    padded = (*arguments, 0, 0, 0, 0, 0, 0)[:6]
    data = struct.pack("<IIQ6Q", number & 0xFFFFFFFF, architecture, 0, *(item % (1 << 64) for item in padded))
    instructions = list(struct.iter_unpack("<HBBI", program))
    if not 0 < len(instructions) <= 4096:
        raise ValueError("the kernel takes 1 to 4096 instructions")
    accumulator, counter = 0, 0
    while True:
        code, if_true, if_false, operand = instructions[counter]
        counter += 1
        if code == 0x20:
            if operand % 4:
                raise ValueError("an unaligned load")
            (accumulator,) = struct.unpack_from("<I", data, operand)
        elif code == 0x06:
            return int(operand)
        elif code in (0x15, 0x35, 0x45):
            answers = {
                0x15: accumulator == operand,
                0x35: accumulator >= operand,
                0x45: accumulator & operand,
            }
            counter += if_true if answers[code] else if_false
        else:
            raise ValueError(f"no such instruction: {code:#x}")


def refused_with(answer: int) -> int | None:
    """The errno of an answer, None where the call is allowed."""
    if answer == ALLOW:
        return None
    if answer & 0xFFFF0000 != ERRNO:
        raise ValueError(f"neither allowed nor refused: {answer:#x}")
    return answer & 0xFFFF
