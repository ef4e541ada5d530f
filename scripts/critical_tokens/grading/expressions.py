r"""Whether two mathematical expressions are equal, decided by evaluating both at the same random points.

Model output is hostile: nothing of it is executed and no symbolic engine sees it. A small grammar (numbers, letters, + - * / ^,
\frac, \sqrt, \pi, a few functions) is read into a tree of bounded size; two trees that agree at several random points are
equal but for an unlikely accident, as polynomials are (Schwartz, Zippel). Whatever the grammar does not know is no expression.
"""

from __future__ import annotations

import cmath
import hashlib
import re
from collections.abc import Callable, Mapping

# Longer expressions are none, and so are deeper ones.
_MOST_TOKENS, _MOST_DEPTH = 300, 40
_POINTS = 3
# Of the larger value; and of zero, which rounding misses by this much.
_TOLERANCE, _ZERO = 1e-11, 1e-13

_TOKEN = re.compile(r"\s*(?:(\d+\.?\d*|\.\d+)|\\([A-Za-z]+)|([A-Za-z])|(\*\*|[-+*/^(){}\[\]!|,=]))")
_FUNCTIONS: Mapping[str, Callable[[complex], complex]] = {
    "sin": cmath.sin,
    "cos": cmath.cos,
    "tan": cmath.tan,
    "log": cmath.log,
    "ln": cmath.log,
    "exp": cmath.exp,
    "sqrt": cmath.sqrt,
}
_CONSTANTS = {"pi": cmath.pi, "e": cmath.e, "i": 1j}
_PRODUCTS = {"cdot", "times"}

Node = Callable[[Mapping[str, complex]], complex]


class NotAnExpressionError(ValueError):
    """Text that the grammar does not know, or more of it than is read."""


def same(left: str, right: str) -> bool:
    """Whether two texts are expressions with the same value at random points of their letters."""
    try:
        first, second = parse(left), parse(right)
    except NotAnExpressionError:
        return False
    for point in range(_POINTS):
        values = _Letters(point)
        try:
            a, b = first(values), second(values)
        except (ArithmeticError, ValueError, OverflowError):
            return False
        if not (cmath.isfinite(a) and cmath.isfinite(b)) or abs(a - b) > max(_ZERO, _TOLERANCE * max(abs(a), abs(b))):
            return False
    return True


class _Letters(dict[str, complex]):
    """A number between 1 and 2 for every letter, the same in every process."""

    def __init__(self, point: int) -> None:
        super().__init__()
        self._point = point

    def __missing__(self, letter: str) -> complex:
        digest = hashlib.sha256(f"{self._point}/{letter}".encode()).digest()
        return 1 + int.from_bytes(digest[:6], "big") / 2**48


def parse(text: str) -> Node:
    """The expression that a text is. Raises NotAnExpressionError."""
    tokens, at = [], 0
    text = text.rstrip()
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None or len(tokens) == _MOST_TOKENS:
            raise NotAnExpressionError(text[:40])
        tokens.append(match)
        at = match.end()
    parser = _Parser(tokens)
    node = parser.sum(0)
    if parser.at != len(tokens):
        raise NotAnExpressionError(text[:40])
    return node


class _Parser:
    """Recursive descent over the tokens of an expression."""

    def __init__(self, tokens: list[re.Match[str]]) -> None:
        self._tokens = tokens
        self.at = 0

    def _symbol(self) -> str | None:
        return self._tokens[self.at][4] if self.at < len(self._tokens) else None

    def _command(self) -> str | None:
        return self._tokens[self.at][2] if self.at < len(self._tokens) else None

    def _take(self, symbol: str) -> None:
        if self._symbol() != symbol:
            raise NotAnExpressionError(f"{symbol} expected")
        self.at += 1

    def sum(self, depth: int) -> Node:
        if depth > _MOST_DEPTH:
            raise NotAnExpressionError("too deep")
        terms = [self._signed(depth)]
        while self._symbol() in ("+", "-"):
            terms.append(self._signed(depth))
        return lambda letters: sum((term(letters) for term in terms), 0j)

    def _signed(self, depth: int) -> Node:
        negative = False
        while self._symbol() in ("+", "-"):
            negative ^= self._symbol() == "-"
            self.at += 1
        product = self._product(depth)
        return (lambda letters: -product(letters)) if negative else product

    def _product(self, depth: int) -> Node:
        factors = [(self._power(depth), False)]
        while self.at < len(self._tokens):
            symbol, command = self._symbol(), self._command()
            if symbol in ("*", "/") or command in _PRODUCTS or command == "div":
                self.at += 1
                factors.append((self._power(depth), symbol == "/" or command == "div"))
            elif symbol is None or symbol in ("(", "{"):
                factors.append((self._power(depth), False))
            else:
                break

        def value(letters: Mapping[str, complex]) -> complex:
            result = 1 + 0j
            for factor, divides in factors:
                result = result / factor(letters) if divides else result * factor(letters)
            return result

        return value

    def _power(self, depth: int) -> Node:
        base = self._atom(depth)
        if self._symbol() in ("^", "**"):
            self.at += 1
            negative = self._symbol() == "-"
            self.at += negative
            exponent = self._power(depth + 1) if depth < _MOST_DEPTH else self.sum(depth + 1)
            return lambda letters: base(letters) ** (-exponent(letters) if negative else exponent(letters))
        return base

    def _atom(self, depth: int) -> Node:
        if self.at >= len(self._tokens):
            raise NotAnExpressionError("ends early")
        number, command, letter, symbol = self._tokens[self.at].groups()
        self.at += 1
        if number is not None:
            if len(number) > 60:
                raise NotAnExpressionError("long number")
            constant = complex(float(number))
            return lambda letters: constant
        if letter is not None:
            known = _CONSTANTS.get(letter)
            return (lambda letters: letters[letter]) if known is None else (lambda letters: known)
        if symbol in ("(", "{"):
            inner = self.sum(depth + 1)
            self._take({"(": ")", "{": "}"}[symbol])
            return inner
        if command is not None:
            return self._commanded(command, depth)
        raise NotAnExpressionError(str(symbol))

    def _commanded(self, command: str, depth: int) -> Node:
        if command in _CONSTANTS:
            constant = _CONSTANTS[command]
            return lambda letters: constant
        if command == "frac":
            above, below = self._argument(depth), self._argument(depth)
            return lambda letters: above(letters) / below(letters)
        if command == "sqrt" and self._symbol() == "[":
            self.at += 1
            degree = self.sum(depth + 1)
            self._take("]")
            radicand = self._argument(depth)
            return lambda letters: radicand(letters) ** (1 / degree(letters))
        if command in _FUNCTIONS:
            function, argument = _FUNCTIONS[command], self._argument(depth)
            return lambda letters: function(argument(letters))
        raise NotAnExpressionError(command)

    def _argument(self, depth: int) -> Node:
        """A group in braces or the next factor."""
        if depth > _MOST_DEPTH:
            raise NotAnExpressionError("too deep")
        return self._power(depth + 1)
