r"""Careful solutions: worked steps that name what they do, and are right.

Each step is a small fact about operands that stand next to each other (a sum, a product of two digits, a remainder,
the smallest of a list, a half), since that is what a model of four layers can do nearly always rightly. What is still
to do is carried along in the text where it is short (the rest of a list, the bits so far).
"""

from __future__ import annotations

from collections.abc import Callable

REACH = 6
"""Careful solutions exist for levels up to this one; above it the corpus never shows how."""


def careful_solution(text: str, task: str) -> str:
    r"""The worked solution of a problem of the bundled mix, ending in `\boxed{answer}`.

    Args:
        text: a short problem text, as `masa.tasks.procedural` writes them.
        task: the task's name without its level.
    """
    steps, answer = _WRITERS[task](text)
    return f"{steps}answer \\boxed{{{answer}}}"


def _chain_sum(text: str) -> tuple[str, str]:
    words = text.split()
    total = int(words[0])
    steps = []
    for sign, word in zip(words[1::2], words[2::2], strict=True):
        before, total = total, total + int(word) if sign == "+" else total - int(word)
        verb = "add" if sign == "+" else "subtract"
        steps.append(f"running total {before}, {verb} {word}, get {total}. ")
    return "".join(steps), str(total)


def _times_digit(number: int, digit: int) -> str:
    """Long multiplication by one digit, units first."""
    facts = []
    carry = 0
    for place, figure in enumerate(int(character) for character in reversed(str(number))):
        product = figure * digit
        fact = f"{figure} times {digit} is {product}"
        if place:
            fact += f" carry {carry} is {product + carry}"
        facts.append(fact)
        carry = (product + carry) // 10
    return f"{number} times {digit}: {', '.join(facts)}, partial product {number * digit}. "


def _products(text: str) -> tuple[str, str]:
    factors = [int(word) for word in text.split(" * ")]
    if max(factors) < 10:
        product = factors[0]
        steps = []
        for factor in factors[1:]:
            steps.append(_times_digit(product, factor))
            product *= factor
        return "".join(steps), str(product)
    left, right = factors
    tens, units = divmod(right, 10)
    low, high = left * units, left * tens
    rows = _times_digit(left, units) + _times_digit(left, tens)
    return f"{rows}shift {high}0 plus {low} is {left * right}. ", str(left * right)


def _gcd(text: str) -> tuple[str, str]:
    small, large = sorted(int(word) for word in text.split()[1:])
    steps = [f"larger {large}, smaller {small}. "]
    while small:
        times, remainder = divmod(large, small)
        steps.append(
            f"divide {large} by {small}: {times} times {small} is {large - remainder}, remainder {remainder}. "
        )
        large, small = small, remainder
    return f"{''.join(steps)}divisor {large}. ", str(large)


def _number_sorting(text: str) -> tuple[str, str]:
    words = text.split()
    rest = [int(word) for word in words[2:]]
    pick, name = (min, "smallest") if words[1] == "up" else (max, "largest")
    order = []
    steps = []
    while len(rest) > 1:
        order.append(pick(rest))
        rest.remove(order[-1])
        steps.append(f"{name} {order[-1]}, remaining {' '.join(map(str, rest))}. ")
    return "".join(steps), " ".join(map(str, order + rest))


def _base_conversion(text: str) -> tuple[str, str]:
    number = int(text.split()[1])
    bits = ""
    steps = []
    while number:
        bits = f"{number % 2}{bits}"
        steps.append(f"{number} is {'odd' if number % 2 else 'even'}, half {number // 2}, bits {bits}. ")
        number //= 2
    return "".join(steps), bits


_WRITERS: dict[str, Callable[[str], tuple[str, str]]] = {
    "chain_sum": _chain_sum,
    "products": _products,
    "gcd": _gcd,
    "number_sorting": _number_sorting,
    "base_conversion": _base_conversion,
}
