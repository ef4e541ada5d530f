"""Whether two texts are equal arithmetic expressions, without executing either of them.

Model output is hostile, so neither an interpreter nor a symbolic engine may see it. A small grammar
parses a text as sympy parses Python-like text: numbers, names, + - * / ** ^ !, brackets and a few
functions. The size of an expression is bounded. Two expressions count as equal if they agree at
several random points. They may agree there by accident, but this is unlikely, as it is for
polynomials (Schwartz-Zippel lemma). All other texts are no expressions: LaTeX, tuples, and products
without a sign (2x), which are not valid Python either.
"""

from __future__ import annotations

import cmath
import hashlib
import math
import re
from collections.abc import Callable
from fractions import Fraction

# Texts with more tokens or deeper nesting are no expressions.
_MOST_TOKENS, _MOST_DEPTH = 300, 40
# Numbers stay exact up to this size, in bits.
_MOST_BITS = 10_000
# Factorials are exact up to this argument.
_MOST_FACTORIAL = 500
# The number of random points at which two expressions are compared.
_POINTS = 3
# Relative tolerances: for values that are not exact; and for two constants, as in the released
# grader (grader.py:96).
_TOLERANCE, _CLOSE = 1e-11, 1e-3

_TOKEN = re.compile(
    r"\s*(?:((?:\d+(?:_\d+)*\.?\d*|\.\d+)(?:[eE][-+]?\d{1,3})?)|([A-Za-z_]\w*)|(\*\*|[-+*/^()!]))", re.ASCII
)
_FUNCTIONS: dict[str, Callable[[complex], complex]] = {
    "sin": cmath.sin,
    "cos": cmath.cos,
    "tan": cmath.tan,
    "log": cmath.log,
    "ln": cmath.log,
    "exp": cmath.exp,
    "sqrt": cmath.sqrt,
}
_CONSTANTS = {"pi": cmath.pi, "E": cmath.e, "I": 1j}

Number = Fraction | complex
Node = Callable[[int], Number]
"""A function from the number of a random point to the value of the expression at that point."""


class NotAnExpressionError(ValueError):
    """The text is not in the grammar, or it exceeds a limit."""


def same(left: str, right: str) -> bool:
    """Whether two texts are expressions of equal value.

    Two constants are equal within the relative tolerance `_CLOSE`. Expressions with names are
    compared at random values of the names.
    """
    try:
        first, second = _read(left), _read(right)
        if not (first.names or second.names):
            return _close(first.value(0), second.value(0))
        if first.powers or second.powers:
            return False
        return all(_equal(first.value(point), second.value(point)) for point in range(_POINTS))
    except (NotAnExpressionError, ArithmeticError, ValueError):
        return False


def _equal(a: Number, b: Number) -> bool:
    if isinstance(a, Fraction) and isinstance(b, Fraction):
        return a == b
    a, b = complex(a), complex(b)
    return cmath.isfinite(a) and cmath.isfinite(b) and abs(a - b) <= _TOLERANCE * max(1.0, abs(a), abs(b))


def _close(a: Number, b: Number) -> bool:
    if _equal(a, b):
        return True
    a, b = complex(a), complex(b)
    return not a.imag and not b.imag and math.isclose(a.real, b.real, rel_tol=_CLOSE)


class _Expression:
    """A parsed text.

    value: the value of the expression at a random point.
    names: whether the expression has names.
    powers: whether ^ was parsed as a power.
    """

    def __init__(self, text: str, powers: bool) -> None:
        parser = _Parser(_tokens(text), powers)
        self.value = parser.whole()
        self.names, self.powers = parser.names, powers


def _read(text: str) -> _Expression:
    """Parse a text, with ^ as bitwise exclusive or, or as a power where that is not possible.

    This is what sympy does. Exclusive or is possible for whole numbers only.
    """
    if "^" not in text:
        return _Expression(text, False)
    try:
        found = _Expression(text, False)
        found.value(0)
    except (NotAnExpressionError, ArithmeticError):
        return _Expression(text, True)
    return found


def _tokens(text: str) -> list[re.Match[str]]:
    tokens: list[re.Match[str]] = []
    at = 0
    text = text.rstrip()
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None or len(tokens) == _MOST_TOKENS:
            raise NotAnExpressionError(text[:40])
        tokens.append(match)
        at = match.end()
    return tokens


class _Parser:
    """A recursive-descent parser for the tokens of an expression, with Python's precedence."""

    def __init__(self, tokens: list[re.Match[str]], powers: bool) -> None:
        self._tokens, self._powers = tokens, powers
        self._at = 0
        self.names = False

    def whole(self) -> Node:
        node = self._xor(0)
        if self._at != len(self._tokens):
            raise NotAnExpressionError("text after the end of the expression")
        return node

    def _symbol(self) -> str | None:
        return self._tokens[self._at][3] if self._at < len(self._tokens) else None

    def _xor(self, depth: int) -> Node:
        if depth > _MOST_DEPTH:
            raise NotAnExpressionError("too deep")
        node = self._sum(depth)
        while self._symbol() == "^" and not self._powers:
            self._at += 1
            node = _both(_exclusive_or, node, self._sum(depth))
        return node

    def _sum(self, depth: int) -> Node:
        node = self._product(depth)
        while (symbol := self._symbol()) in ("+", "-"):
            self._at += 1
            node = _both(_plus if symbol == "+" else _minus, node, self._product(depth))
        return node

    def _product(self, depth: int) -> Node:
        node = self._signed(depth)
        while (symbol := self._symbol()) in ("*", "/"):
            self._at += 1
            node = _both(_times if symbol == "*" else _over, node, self._signed(depth))
        return node

    def _signed(self, depth: int) -> Node:
        negative = False
        while self._symbol() in ("+", "-"):
            negative ^= self._symbol() == "-"
            self._at += 1
        node = self._power(depth)
        return (lambda point: -node(point)) if negative else node

    def _power(self, depth: int) -> Node:
        if depth > _MOST_DEPTH:
            raise NotAnExpressionError("too deep")
        base = self._atom(depth)
        while self._symbol() == "!":
            self._at += 1
            base = _factorial(base)
        if self._symbol() == "**" or (self._powers and self._symbol() == "^"):
            self._at += 1
            return _both(_raise, base, self._exponent(depth + 1))
        return base

    def _exponent(self, depth: int) -> Node:
        if self._symbol() in ("+", "-"):
            negative = self._symbol() == "-"
            self._at += 1
            node = self._exponent(depth + 1) if depth < _MOST_DEPTH else self._xor(depth + 1)
            return (lambda point: -node(point)) if negative else node
        return self._power(depth)

    def _atom(self, depth: int) -> Node:
        if self._at >= len(self._tokens):
            raise NotAnExpressionError("ends early")
        number, name, symbol = self._tokens[self._at].groups()
        self._at += 1
        if number is not None:
            if len(number) > 300 or re.fullmatch(r"0+[1-9]\d*", number):
                raise NotAnExpressionError("a number that is too long, or begins with zeros")
            constant = Fraction(number)
            return lambda point: constant
        if name is not None and self._symbol() != "(":
            return self._named(name)
        if name is not None:
            return self._function(name, self._bracketed(depth))
        if symbol == "(":
            self._at -= 1
            return self._bracketed(depth)
        raise NotAnExpressionError(str(symbol))

    def _named(self, name: str) -> Node:
        if name in _CONSTANTS:
            constant = _CONSTANTS[name]
            return lambda point: constant
        self.names = True
        return lambda point: _letter(name, point)

    def _function(self, name: str, argument: Node) -> Node:
        if name in _FUNCTIONS:
            function = _FUNCTIONS[name]
            return lambda point: function(complex(argument(point)))
        # Nothing is known about the function, except that equal arguments give equal values.
        self.names = True
        return lambda point: _letter(f"{name}({argument(point)})", point)

    def _bracketed(self, depth: int) -> Node:
        self._at += 1
        node = self._xor(depth + 1)
        if self._symbol() != ")":
            raise NotAnExpressionError(") expected")
        self._at += 1
        return node


def _letter(name: str, point: int) -> Fraction:
    """The value of a name at a random point: between 1 and 2, and the same in every process."""
    digest = hashlib.sha256(f"{point}/{name}".encode()).digest()
    return 1 + Fraction(int.from_bytes(digest[:3], "big"), 1 << 24)


def _both(operation: Callable[[Number, Number], Number], left: Node, right: Node) -> Node:
    return lambda point: _bounded(operation(left(point), right(point)))


def _bounded(value: Number) -> Number:
    if isinstance(value, Fraction) and max(value.numerator.bit_length(), value.denominator.bit_length()) > _MOST_BITS:
        raise OverflowError("large number")
    return value


def _alike(a: Number, b: Number) -> tuple[Number, Number]:
    """The two numbers as fractions if both are exact, else as complex numbers."""
    return (a, b) if isinstance(a, Fraction) and isinstance(b, Fraction) else (complex(a), complex(b))


def _plus(a: Number, b: Number) -> Number:
    a, b = _alike(a, b)
    return a + b


def _minus(a: Number, b: Number) -> Number:
    a, b = _alike(a, b)
    return a - b


def _times(a: Number, b: Number) -> Number:
    a, b = _alike(a, b)
    return a * b


def _over(a: Number, b: Number) -> Number:
    a, b = _alike(a, b)
    return a / b


def _raise(a: Number, b: Number) -> Number:
    if isinstance(a, Fraction) and isinstance(b, Fraction) and b.denominator == 1:
        size = max(a.numerator.bit_length(), a.denominator.bit_length(), 1)
        if abs(b.numerator) * size <= _MOST_BITS:
            return a**b.numerator
        raise OverflowError("large power")
    return complex(a) ** complex(b)


def _exclusive_or(a: Number, b: Number) -> Number:
    if isinstance(a, Fraction) and isinstance(b, Fraction) and a.denominator == b.denominator == 1:
        return Fraction(a.numerator ^ b.numerator)
    raise NotAnExpressionError("^ of a number that is not whole")


def _factorial(argument: Node) -> Node:
    def value(point: int) -> Number:
        found = argument(point)
        if isinstance(found, Fraction) and found.denominator == 1 and 0 <= found <= _MOST_FACTORIAL:
            return Fraction(math.factorial(found.numerator))
        if complex(found).imag:
            raise NotAnExpressionError("factorial of a number that is not real")
        return complex(math.gamma(complex(found).real + 1))

    return value
