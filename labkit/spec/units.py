"""Numbers as text: bytes, counts, seconds."""


def size(number: float) -> str:
    """A `number` of bytes in binary units: 512 B, 64.00 KiB, 147.75 MiB, 16.00 GiB."""
    if number < 1024:
        return f"{number:,.0f} B"
    units = ["KiB", "MiB", "GiB", "TiB"]
    number /= 1024
    while number >= 1024 and len(units) > 1:
        number, units = number / 1024, units[1:]
    return f"{number:,.2f} {units[0]}"


def big_number(number: float, units: tuple[str, ...] = ("", " k", " M", " G", " T", " P")) -> str:
    """A `number` of things with four significant digits and a decimal prefix: 48.70 G; other names of units in
    `units`.
    """
    exponent = 0
    while abs(number) >= 999.95 and exponent < len(units) - 1:
        number, exponent = number / 1000, exponent + 1
    if exponent == 0 and number == int(number):
        return f"{int(number)}{units[0]}"
    digits = 2 if abs(number) < 99.995 else 1
    return f"{number:,.{digits}f}{units[exponent]}"


def duration(seconds: float) -> str:
    """Seconds with three significant digits: 12.6 µs, 14.3 ms, 253 s, 3,524 s."""
    units = ["s", "ms", "µs"]
    while seconds < 0.9995 and len(units) > 1:
        seconds, units = seconds * 1e3, units[1:]
    return f"{seconds:,.0f} {units[0]}" if seconds >= 99.95 else f"{seconds:.3g} {units[0]}"


def parameter_count(number: float) -> str:
    """Parameters the way models are named: 752.4 M, 26.90 B."""
    return big_number(number, ("", " k", " M", " B", " T"))
