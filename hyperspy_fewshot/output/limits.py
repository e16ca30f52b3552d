"""How much a file may make us read, and why one is refused."""

# What the arrays of a file may hold together [bytes]: so much in any file, and in a large one so
# many times its size. Deflate cannot compress further than to 1/1032, and Blosc, as it is set by
# RosettaSciIO, to about 1/1050.
_ALWAYS = 2**30
_PER_BYTE = 1200


class Unreadable(ValueError):
    """Why a file is refused; the message follows the name of the file."""


class Budget:
    """What is left to read from a file of a given size [bytes]."""

    def __init__(self, size: int):
        self.size, self.left = size, max(_ALWAYS, _PER_BYTE * size)

    def take(self, count: int, name: str) -> None:
        """Count the bytes that something takes in memory; raise Unreadable if none are left."""
        self.left -= count
        if self.left < 0:
            raise Unreadable(f"declares more data, in {name!r}, than a file of its size can hold.")
