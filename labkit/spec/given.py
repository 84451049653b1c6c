"""What is given in the place of a spec: told once a call has failed, since these calls stand in the loops of plans.

Nothing is looked at before a call, and within `labkit.spec` the functions call each other as they are written.
"""

import functools
import inspect
from collections.abc import Callable

from labkit.calling import check_names, check_subjects, check_whole, described
from labkit.errors import InputError


def takes_spec(function: object) -> bool:
    """Whether this is a function whose first argument is a spec."""
    return inspect.isfunction(function) and next(iter(inspect.signature(function).parameters), None) == "spec"


def checked(function: Callable) -> Callable:
    """A function of a spec which says what it was given, if it fails with something else than a spec.

    Raises (when it is called):
        InputError: a lab, a run, a name, ... where a spec belongs. CallError: an unknown or missing argument, or one
            without its name.
    """
    name, kinds = f"spec.{function.__name__}", {"spec": ("Spec",)}

    @functools.wraps(function)
    def call(*given, **chosen):
        try:
            return function(*given, **chosen)
        except (AttributeError, TypeError) as error:
            parameters = inspect.signature(function).parameters
            check_subjects(name, kinds | dict.fromkeys(list(parameters)[1:], ()), given, chosen)
            check_names(name, parameters, given, chosen)
            check_whole(name, parameters, given, chosen)
            value = given[0] if given else chosen["spec"]
            if isinstance(error, AttributeError) and not any(each.__name__ == "Spec" for each in type(value).__mro__):
                hint = f"{name}(lab.spec, ...)"
                expected = "lab.spec, or what labkit.spec.read returns"
                raise InputError(f"{name} reads a spec", got=described(value), expected=expected, hint=hint) from error
            raise

    call.__module__ = "labkit.spec"  # where a pickle finds it
    return call
